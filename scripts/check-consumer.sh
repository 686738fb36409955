#!/usr/bin/env bash
# Installs a finished build into a folder of its own, then configures, builds and
# runs examples/consumer against what was installed, with a table that the installed
# program makes.
#
#   scripts/check-consumer.sh BUILD_DIR
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=$(cd "${1:?usage: scripts/check-consumer.sh BUILD_DIR}" && pwd)

work=$(mktemp -d "${build_dir}/consumer.XXXXXX")
trap 'rm -rf "${work}"' EXIT

cmake --install "${build_dir}" --prefix "${work}/prefix" > "${work}/install.log"
# Nothing but the public headers may be installed.
find "${work}/prefix/include" -type f ! -path '*/include/tiercel/*.h' -print | grep . && {
  echo "check-consumer: the files above are no public headers" >&2
  exit 1
}

cmake -S "${source_dir}/examples/consumer" -B "${work}/build" -G Ninja \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="${work}/prefix"
# The source tree has the same headers: the package must have come from the prefix.
grep -q "tiercel_DIR:PATH=${work}/prefix/" "${work}/build/CMakeCache.txt"
cmake --build "${work}/build"

"${work}/prefix/bin/tiercel" make-checkpoint --like engram-demo --shrink 100 --seed 1 \
  --out "${work}/checkpoint" > /dev/null
"${work}/build/consumer" "${work}/checkpoint" | tee "${work}/output"
# Two layers and four tokens, 16 rows each.
[[ $(grep -c '^layer ' "${work}/output") -eq 2 ]]
[[ $(grep -cE '^token [0-9]+: rows( [0-9]+){16}$' "${work}/output") -eq 4 ]]
echo "check-consumer: ok"

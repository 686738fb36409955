#!/usr/bin/env bash
# Installs a finished build into a folder of its own, then configures, builds and
# runs examples/consumer against what was installed, with a table that the installed
# program makes; then the C examples, by CMake and by pkg-config.
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

if [[ -f "${work}/prefix/include/tiercel/tiercel.h" ]]; then
  # A C project that asks for the C API alone.
  mkdir "${work}/c"
  cp "${source_dir}/examples/ggml_get_rows.c" "${work}/c"
  cat > "${work}/c/CMakeLists.txt" << 'END'
cmake_minimum_required(VERSION 3.25)
project(tiercel_c_consumer LANGUAGES C)
find_package(tiercel 0.1 REQUIRED COMPONENTS c)
add_executable(ggml_get_rows ggml_get_rows.c)
target_link_libraries(ggml_get_rows PRIVATE tiercel::c)
END
  cmake -S "${work}/c" -B "${work}/c/build" -G Ninja -DCMAKE_PREFIX_PATH="${work}/prefix"
  cmake --build "${work}/c/build"
  "${work}/c/build/ggml_get_rows" "${work}/checkpoint"

  # And by hand; tiercel.pc goes by where it lies.
  pc=$(find "${work}/prefix" -name tiercel.pc)
  libdir=$(PKG_CONFIG_PATH=$(dirname "${pc}") pkg-config --variable=libdir tiercel)
  # shellcheck disable=SC2046
  cc -std=c11 "${source_dir}/examples/lookup.c" -o "${work}/lookup" \
    $(PKG_CONFIG_PATH=$(dirname "${pc}") pkg-config --cflags --libs tiercel)
  LD_LIBRARY_PATH="${libdir}" "${work}/lookup" "${work}/checkpoint" | tee "${work}/output"
  [[ $(grep -cE '^layer [0-9]+: 64 of 64 rows' "${work}/output") -eq 2 ]]
fi
echo "check-consumer: ok"

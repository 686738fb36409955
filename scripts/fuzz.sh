#!/usr/bin/env bash
# Builds the fuzzers (clang, ASan, UBSan) and runs each for SECONDS, as many at a time as
# there are cores.
#
#   scripts/fuzz.sh SECONDS
#
# A fuzzer starts from the inputs in fuzz/corpus/ITS_NAME, where that folder is
# there, and keeps what it finds under build/asan/corpus. A crash leaves its input in
# build/asan/crash-* and fails the script.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: scripts/fuzz.sh SECONDS}

cmake --preset asan > /dev/null
cmake --build --preset fuzz

# fuzz_one PROGRAM: what it prints comes out in one piece.
fuzz_one() {
  local name output
  name=$(basename "$1")
  mkdir -p "build/asan/corpus/${name}"
  local corpora=("build/asan/corpus/${name}")
  [[ -d "fuzz/corpus/${name}" ]] && corpora+=("fuzz/corpus/${name}")
  local status=0
  output=$("$1" -max_total_time="${seconds}" -timeout=20 -rss_limit_mb=3000 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix=build/asan/crash- "${corpora[@]}" 2>&1) ||
    status=$?
  printf '== %s: %s s\n%s\n' "${name}" "${seconds}" "${output}"
  return "${status}"
}
export -f fuzz_one
export seconds

programs=(build/asan/fuzz/*_fuzz)
if [[ ! -x ${programs[0]} ]]; then
  echo "fuzz: no fuzzer was built in build/asan/fuzz" >&2
  exit 1
fi
printf '%s\0' "${programs[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'fuzz_one "$0"'

#!/usr/bin/env bash
# Builds the fuzzers (clang, ASan, UBSan) and runs each for SECONDS.
#
#   scripts/fuzz.sh SECONDS
#
# A fuzzer starts from the inputs in fuzz/corpus/ITS_NAME, where that folder is
# there, and keeps what it finds under build/fuzz/corpus. A crash leaves its input in
# build/fuzz/crash-* and fails the script.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: scripts/fuzz.sh SECONDS}

cmake --preset fuzz > /dev/null
cmake --build --preset fuzz
found=0
for program in build/fuzz/fuzz/*_fuzz; do
  [[ -x "${program}" ]] || continue
  found=$((found + 1))
  name=$(basename "${program}")
  mkdir -p "build/fuzz/corpus/${name}"
  corpora=("build/fuzz/corpus/${name}")
  [[ -d "fuzz/corpus/${name}" ]] && corpora+=("fuzz/corpus/${name}")
  echo "== ${name}: ${seconds} s"
  "${program}" -max_total_time="${seconds}" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix=build/fuzz/crash- "${corpora[@]}"
done
if [[ ${found} -eq 0 ]]; then
  echo "fuzz: no fuzzer was built in build/fuzz/fuzz" >&2
  exit 1
fi

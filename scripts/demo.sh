#!/usr/bin/env bash
# What `make demo` does once the packages are there: makes a DeepSeek-V4.1-shaped
# table 1/256 of the real size, serves 200,000 real tokens from it through a
# cache far smaller than the table, and checks every row that it gets.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=build/demo
checkpoint=${demo}/checkpoint
data=tests/data
tiercel=build/release/tools/tiercel
shape=(--like deepseek-v4.1-flash --shrink 256 --seed 1 --tables-only)

echo "== build"
cmake --preset release
cmake --build --preset release --target tiercel_cli
mkdir -p "${demo}"

echo "== checkpoint: ${shape[*]}"
# The stamp is written last and holds what the table was made with.
if [[ -d "${checkpoint}" && "$(cat "${demo}/made_with" 2> /dev/null)" == "${shape[*]}" ]]; then
  echo "${checkpoint} is there already"
else
  rm -rf "${checkpoint}" "${demo}/made_with"
  "${tiercel}" make-checkpoint "${shape[@]}" --out "${checkpoint}"
  echo "${shape[*]}" > "${demo}/made_with"
fi

echo "== token map: DeepSeek-V3's tokenizer"
"${tiercel}" token-map "${data}/tokenizer_deepseek_v3.json.zst" --out "${demo}/token_map.u32"

echo "== replay: 200,000 tokens of documentation, 128 MiB of DRAM"
"${tiercel}" replay "${checkpoint}" \
  --tokens "${data}/sample_trace.tokens.u32.zst" \
  --offsets "${data}/sample_trace.offsets.u64" \
  --token-map "${demo}/token_map.u32" \
  --limit 200000 --dram 128MiB --verify

#!/usr/bin/env bash
# Measures on a GPU what a table outside of its memory costs: the layer's test against the
# reference, then overlap_gpu_bench. Takes 5 to 8 minutes, most of it to write the table.
#
#   scripts/measure-overlap-gpu.sh BUILD [TABLE [SHRINK]]
#
#   BUILD   a build tree with -DTIERCEL_CUDA=ON
#   TABLE   where the table goes, or is already; /dev/shm/tiercel_overlap: in memory, so that
#           no disk has a part in the arms without a budget for one
#   SHRINK  of DeepSeek-V4.1's head sizes: 2 makes 101 GB, 16 makes 12.7 GB; 2
set -euo pipefail

build=${1:?usage: measure-overlap-gpu.sh BUILD [TABLE [SHRINK]]}
table=${2:-/dev/shm/tiercel_overlap}
shrink=${3:-2}
source_dir=$(cd "$(dirname "$0")/.." && pwd)
data=${source_dir}/tests/data

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
"${build}/tests/cuda/engram_layer_cuda_test"

if [[ ! -d ${table} ]]; then
  "${build}/tools/tiercel" make-checkpoint --like deepseek-v4.1-flash --shrink "${shrink}" \
    --seed 1 --tables-only --out "${table}"
fi
# Blocks of 1 ms, 16 of them: a decode step of 16 ms with 32 streams.
"${build}/bench/overlap_gpu_bench" "${table}" "${data}/sample_trace" \
  --token-map "${data}/token_map_v3.u32" --budgets 4GiB,16GiB --resident-budget 16GiB \
  --block-ms 1 --decode-steps 300 --prefill-steps 100 --rounds 2 --warm-sequences 256

#!/usr/bin/env bash
# What `make bench` does once the packages are there: makes a table larger than what the
# arms may hold in memory, and runs Tiercel and its peers on it for about five minutes.
# Table, JSON and SVG come to lie in BENCH_DIR (build/bench), which wants a real disk with
# 8 GB free: 3.2 GB for the checkpoint, 3.5 GB for RocksDB's copy of it.
#
#   BENCH_DIR=/mnt/nvme/bench scripts/bench.sh [options of tiercel-peers]
#
# Options are those of a five-minute run unless some are given: fewer arms and workloads,
# slices of 0.3 s.
set -euo pipefail
cd "$(dirname "$0")/.."

bench=${BENCH_DIR:-build/bench}
if [[ $# -eq 0 ]]; then
  set -- --quick --repeats 5 --cap-seconds 1 --slices-between 6 \
    --workloads cold432,prefill,random16,random64
fi
preset=${PRESET:-release}
tools=build/${preset}/tools
checkpoint=${bench}/checkpoint
shape=(--like deepseek-v4.1-flash --shrink "${BENCH_SHRINK:-64}" --seed 1 --tables-only)

echo "== build"
cmake --preset "${preset}"
cmake --build --preset "${preset}" --target tiercel_cli tiercel_peers
mkdir -p "${bench}"

echo "== checkpoint: ${shape[*]}"
# The stamp is written last and holds what the table was made with.
if [[ -d "${checkpoint}" && "$(cat "${bench}/made_with" 2> /dev/null)" == "${shape[*]}" ]]; then
  echo "${checkpoint} is there already"
else
  rm -rf "${checkpoint}" "${bench}/made_with"
  "${tools}/tiercel" make-checkpoint "${shape[@]}" --out "${checkpoint}"
  echo "${shape[*]}" > "${bench}/made_with"
fi

echo "== peers"
"build/${preset}/bench/peers/tiercel-peers" "${checkpoint}" --scratch "${bench}/rocksdb" \
  --json "${bench}/peers.json" --svg "${bench}/peers.svg" "$@" |
  tee "${bench}/peers.txt"
echo "== ${bench}/peers.txt, ${bench}/peers.json, ${bench}/peers.svg"

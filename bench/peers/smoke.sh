#!/usr/bin/env bash
# Runs tiercel-peers as a whole, small: every arm that can run here, at every workload,
# with its rows checked. Figures of so short a run mean nothing.
#
#   smoke.sh TIERCEL TIERCEL_PEERS
set -euo pipefail
tiercel=$1
peers=$2

scratch=$(mktemp -d "${TEST_TMPDIR:-${TMPDIR:-/var/tmp}}/tiercel-peers-smoke.XXXXXX")
trap 'rm -rf "${scratch}"' EXIT
checkpoint=${scratch}/checkpoint
"${tiercel}" make-checkpoint --like deepseek-v4.1-flash --shrink 20000 --tables-only \
  --out "${checkpoint}" > "${scratch}/made.txt"

# The page cache of the machine is left alone: it is not ours.
small=(--drop files --repeats 1 --slice-seconds 0.001 --batches-max 1 --dram 32MiB
  --prefill-tokens 4 --random-rows 128 --replay-tokens 12 --slices-between 100)
"${peers}" "${checkpoint}" "${small[@]}" --json "${scratch}/peers.json" \
  --svg "${scratch}/peers.svg" 2> "${scratch}/progress.txt" > "${scratch}/peers.txt" || {
  tail -n 5 "${scratch}/progress.txt" >&2
  exit 1
}

fail() {
  echo "smoke: $1" >&2
  exit 1
}
for arm in tiercel tiercel-pread pread-16 mmap-1 mmap-willneed-16 rocksdb-1 dram fio; do
  grep -q "\"name\": \"${arm}\"" "${scratch}/peers.json" || fail "no ${arm} in the JSON"
done
# What needs neither io_uring, nor fio, nor RocksDB, nor O_DIRECT runs everywhere.
cat "${scratch}/peers.txt"
grep -q '^mmap-1 .*not run' "${scratch}/peers.txt" && fail "mmap-1 did not run"
grep -q '^<svg ' "${scratch}/peers.svg" || fail "no SVG"

# An arm that gives wrong bytes ends the run: spoil the tables behind the header.
for file in "${checkpoint}"/*.safetensors; do
  size=$(stat -c %s "${file}")
  dd if=/dev/urandom of="${file}" bs=4096 seek=$((size / 8192)) count=$((size / 8192)) \
    conv=notrunc status=none
done
code=0
"${peers}" "${checkpoint}" "${small[@]}" --arms mmap-1 --workloads prefill \
  > "${scratch}/spoilt.txt" 2>&1 || code=$?
[[ ${code} -eq 1 ]] || fail "wrong bytes ended the run with code ${code}, not 1"
grep -q 'WRONG BYTES' "${scratch}/spoilt.txt" || fail "wrong bytes were not named"

#!/usr/bin/env bash
# Measures on a GPU what a table outside of its memory costs: the layer's test against the
# reference, then overlap_gpu_bench on two tables, one after the other. Ends within DEADLINE
# (460) seconds: every arm has its limits, and one that would not end in time is left out,
# aloud.
#
#   scripts/measure-overlap-gpu.sh [--dry-run] BUILD [PART [DIR]]
#
#   --dry-run  prints what would be done, its bytes and seconds; needs no GPU
#   BUILD      a build tree with -DTIERCEL_CUDA=ON, or a folder that gpu-bench.sh has packed
#   PART       memory, disk or all; all
#   DIR        where the disk's table goes; /var/tmp
#
# Two tables, since no machine of 128 GiB of memory and 64 GiB of disk has room for one that
# does for all: 101 GB in /dev/shm leave no 64 GiB for a budget, and do not fit the disk.
#
# - memory: 203 GB / SHRINK_MEMORY (2: 101 GB) of fp8 rows, generated into pinned host memory and
#   gathered by the GPU over PCIe. No files. Arms: no Engram, rows on the device, the table
#   pinned, the same gathered in front of the layer. What it takes of memory is the table.
# - disk: 203 GB / SHRINK_DISK on the disk, of 4, 6, 8, 12 and 16 the first that fits it and
#   is written within WRITE_SECONDS (90) at the speed that a second of writing shows.
#   Arms: no Engram, rows on the device, the table in HBM, and through the store: resident in
#   DRAM, and BUDGETS (4GiB,16GiB,64GiB) of DRAM before the disk, each by tickets and
#   copies and by the HBM tier (HBM, 4GiB); blocking lookups at the first budget. Takes the
#   largest budget of memory. A cache holds what was seen before, which is WARM_SEQUENCES
#   (48) of the trace: a budget that is larger than that hits no more than the next smaller
#   one, and the report says how much was seen.
#
# TRACE (tests/data/sample_trace) and TOKEN_MAP: another trace, of raw ids.
set -euo pipefail

dry=
if [[ "${1:-}" == --dry-run ]]; then
  dry=1
  shift
fi
build=${1:?usage: measure-overlap-gpu.sh [--dry-run] BUILD [PART [DIR]]}
part=${2:-all}
dir=${3:-/var/tmp}
source_dir=$(cd "$(dirname "$0")/.." && pwd)
trace=${TRACE:-${source_dir}/tests/data/sample_trace}
token_map=${TOKEN_MAP:-${source_dir}/tests/data/token_map_v3.u32}
deadline=${DEADLINE:-460}
shrink_memory=${SHRINK_MEMORY:-2}
shrink_disk=${SHRINK_DISK:-}
budgets=${BUDGETS:-4GiB,16GiB,64GiB}
table_bytes=203000000000  # Of SHRINK 1.
spare_disk_bytes=2000000000

fail() {
  echo "measure-overlap-gpu.sh: $*" >&2
  exit 1
}

case "${part}" in
  memory | disk | all) ;;
  *) fail "PART is memory, disk or all, and not \"${part}\"" ;;
esac
if [[ -d "${build}/bin" && -d "${build}/lib" ]]; then
  bench=${build}/bin/overlap_gpu_bench
  tiercel=${build}/bin/tiercel
  layer_test=${build}/bin/engram_layer_cuda_test
  export LD_LIBRARY_PATH=${build}/lib${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}}
else
  bench=${build}/bench/overlap_gpu_bench
  tiercel=${build}/tools/tiercel
  layer_test=${build}/tests/cuda/engram_layer_cuda_test
fi
[[ -x "${bench}" ]] || fail "no ${bench}: configure with -DTIERCEL_CUDA=ON, where cuBLASLt is"
if ldd "${bench}" | grep 'not found'; then
  fail "these libraries are missing; cuBLASLt comes with CUDA and is not packed"
fi
export CUDA_MODULE_LOADING=EAGER  # No kernel is loaded within an arm's time.

# Blocks of 1 ms, 16 of them: a step of 16 ms.
model=(--token-map "${token_map}" --sequences 512 --block-ms 1 --prefill-block-ms 1
  --decode-steps 200 --prefill-steps 60 --rounds 2 --phase-seconds 10)
memory_arms=("made:${shrink_memory}" "${trace}" "${model[@]}" --no-store --pinned-table)
disk_arms=("${trace}" "${model[@]}" --hbm-table --hbm-budgets "${HBM:-4GiB}"
  --budgets "${budgets}" --blocking-budgets "${budgets%%,*}" --resident-budget 16GiB
  --warm-sequences "${WARM_SEQUENCES:-48}" --warm-seconds 20)

# Prints what a part takes, and fails where the memory is not there.
plan() {
  "${bench}" "$@" --dry-run ${MEMORY:+--memory "${MEMORY}"}
}

# Bytes of a table, and those that DIR has room for.
bytes_of() { echo $((table_bytes / $1)); }
free_bytes() { df --output=avail -B1 "${dir}" | tail -1; }

# Bytes a second that DIR takes: a second's worth, past the page cache where it can be.
write_speed() {
  local file=${dir}/tiercel_overlap_speed.$$ begin now
  begin=$(date +%s%N)
  dd if=/dev/zero of="${file}" bs=4M count=256 oflag=direct conv=fsync status=none 2> /dev/null ||
    dd if=/dev/zero of="${file}" bs=4M count=256 conv=fsync status=none
  now=$(date +%s%N)
  rm -f "${file}"
  echo $((256 * 4194304 * 1000 / ((now - begin) / 1000000 + 1)))
}

choose_shrink() {
  local free speed shrink
  free=$(free_bytes)
  speed=$(write_speed)
  for shrink in 4 6 8 12 16; do
    if [[ $(($(bytes_of "${shrink}") + spare_disk_bytes)) -le ${free} &&
      $(($(bytes_of "${shrink}") / speed)) -le ${WRITE_SECONDS:-90} ]]; then
      echo "${shrink}"
      return
    fi
  done
  fail "${dir} has $((free / 1000000000)) GB free and takes $((speed / 1000000)) MB/s: not even" \
    "$(($(bytes_of 16) / 1000000000)) GB fit, or are written in ${WRITE_SECONDS:-90} s; name" \
    "another DIR, SHRINK_DISK or WRITE_SECONDS"
}

if [[ -n "${dry}" ]]; then
  # Of the machine that this is made for, unless told another.
  MEMORY=${MEMORY:-128GiB}
  seconds=0
  add_seconds() {
    local text
    text=$(plan "$@") || exit
    echo "${text}"
    seconds=$((seconds + $(awk '/^all, one after another/ {print int($(NF - 3))}' <<< "${text}")))
  }
  [[ "${part}" == disk ]] || add_seconds "${memory_arms[@]}"
  if [[ "${part}" != memory ]]; then
    shrink_disk=${shrink_disk:-4}
    gigabytes=$(($(bytes_of "${shrink_disk}") / 1000000000))
    echo "a table of ${gigabytes} GB is written to ${dir}, or a smaller one: about ${gigabytes} s" \
      "at 1 GB/s, at most ${WRITE_SECONDS:-90} s"
    seconds=$((seconds + gigabytes))
    add_seconds "made:${shrink_disk}" "${disk_arms[@]}"
  fi
  echo "about ${seconds} s in all; what would not end within ${deadline} s is left out"
  exit 0
fi

# What is not there is told before anything is done.
[[ "${part}" == disk ]] || plan "${memory_arms[@]}"
if [[ "${part}" != memory ]]; then
  [[ -d "${dir}" && -w "${dir}" ]] || fail "${dir} is no folder that can be written to"
  if [[ -z "${shrink_disk}" ]]; then shrink_disk=$(choose_shrink); fi
  needed=$(($(bytes_of "${shrink_disk}") + spare_disk_bytes))
  [[ ${needed} -le $(free_bytes) ]] ||
    fail "${dir} has $(free_bytes) bytes free, and the table takes ${needed}: raise SHRINK_DISK"
  plan "made:${shrink_disk}" "${disk_arms[@]}"
fi

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
timeout --kill-after=5 60 "${layer_test}"

failed=0
# run_part END ARGS...: runs a part, which ends END seconds after the start.
run_part() {
  local end=$1 left
  shift
  left=$((end - SECONDS))
  [[ ${left} -ge 30 ]] || fail "only ${left} s are left of ${deadline} for the next part"
  timeout --kill-after=5 "${left}" "${bench}" "$@" --deadline $((left - 5)) || failed=1
}

if [[ "${part}" != disk ]]; then
  echo "== memory"
  end=${deadline}
  if [[ "${part}" == all ]]; then end=$((deadline * 2 / 5)); fi
  run_part "${end}" "${memory_arms[@]}"
  echo "== memory: ${SECONDS} s in all"
fi
if [[ "${part}" != memory ]]; then
  echo "== disk"
  table=${dir}/tiercel_overlap.$$
  trap 'rm -rf "${table}"' EXIT
  timeout --kill-after=5 $((2 * ${WRITE_SECONDS:-90})) "${tiercel}" make-checkpoint \
    --like deepseek-v4.1-flash --shrink "${shrink_disk}" --seed 1 --tables-only --out "${table}"
  echo "== disk: table written, ${SECONDS} s in all"
  run_part "${deadline}" "${table}" "${disk_arms[@]}"
  echo "== disk: ${SECONDS} s in all"
fi
exit "${failed}"

#!/usr/bin/env bash
# Tests, sanitizers and benches of the GPU tier on a machine that has a GPU and nothing else:
# no packages, no build. In two steps, since such a machine seldom builds:
#
#   scripts/gpu-bench.sh pack DIR      where it is built: puts programs, the shared libraries
#                                      that they need and a token trace into DIR and DIR.tgz,
#                                      and says which libraries those are; with cuBLASLt also
#                                      what measure-overlap-gpu.sh runs, but not cuBLASLt
#                                      itself, which is half a gigabyte
#   scripts/gpu-bench.sh run DIR OUT   where the GPU is, from a copy of the source tree (for
#                                      golden vectors); DIR may be the .tgz. Logs and JSON
#                                      come to lie in OUT
#
# `pack` builds the preset PRESET (release), or takes the build tree BUILD_DIR as it is. `run`
# ends within DEADLINE (460) seconds: each part has its limit, one that fails does not stop
# the others, and what there is no time for is left out, aloud. GPU_BATCHES (100000) random
# batches are compared with the generator, by a process a core, with their tables in BATCHES_DIR
# (/dev/shm: a disk would make them wait). The replay makes its table under TMPDIR, 203 GB /
# SHRINK (16: 12.7 GB, with HBM_BYTES and DRAM_BYTES a sixteenth of 4 and 16 GiB), and pins as
# much host memory for one of its arms. TRACE, of plain raw ids, is for another trace than the
# sample.
set -uo pipefail
cd "$(dirname "$0")/.."

out=
scratch=
tests=(dequantize_cuda_test gather_cuda_test hash_cuda_test hbm_cuda_test)
overlap=(bench/overlap_gpu_bench tests/cuda/engram_layer_cuda_test)

pack() {
  set -e
  local dir=$1 build=${BUILD_DIR:-}
  if [[ -z "${build}" ]]; then
    build=build/${PRESET:-release}
    cmake --preset "${PRESET:-release}" -DTIERCEL_CUDA=ON
    cmake --build --preset "${PRESET:-release}" --target "${tests[@]}" gpu_bench tiercel_cli
    cmake --build --preset "${PRESET:-release}" --target "${overlap[@]##*/}" ||
      echo "== no overlap_gpu_bench: it needs cuBLASLt"
  fi
  rm -rf "${dir}"
  mkdir -p "${dir}/bin" "${dir}/lib"
  for test in "${tests[@]}"; do cp "${build}/tests/cuda/${test}" "${dir}/bin/"; done
  cp "${build}/bench/gpu/gpu_bench" "${build}/tools/tiercel" "${dir}/bin/"
  for program in "${overlap[@]}"; do
    if [[ -x "${build}/${program}" ]]; then cp "${build}/${program}" "${dir}/bin/"; fi
  done
  strip "${dir}"/bin/*
  # All but what every Linux has with its libc; the driver's libcuda is the GPU machine's own.
  ldd "${dir}"/bin/* | awk '/=> \// {print $3}' | sort -u |
    grep -Ev '/(ld-linux[^/]*|libc|libm|libdl|librt|libpthread|libcuda|libcublasLt)\.so' |
    while read -r library; do cp -L "${library}" "${dir}/lib/"; done
  zstd -q -d -f tests/data/sample_trace.tokens.u32.zst -o "${dir}/trace.u32"
  tar -C "${dir}" -czf "${dir}.tgz" .
  echo "== libraries to carry, in ${dir}/lib:"
  ls -s --block-size=K "${dir}/lib"
  du -sh "${dir}" "${dir}.tgz"
}

failed=0
# part NAME SECONDS COMMAND...: runs it into OUT/NAME.log and says how it ended.
part() {
  local name=$1 limit=$2 start=${SECONDS} code=0
  shift 2
  local left=$((${DEADLINE:-460} - SECONDS))
  if [[ ${left} -lt 5 ]]; then
    echo "== ${name}: no time left"
    printf '{"part": "%s", "left_out": true}\n' "${name}" >> "${out}/parts.jsonl"
    failed=1
    return 0
  fi
  if [[ ${limit} -gt ${left} ]]; then limit=${left}; fi
  timeout --kill-after=5 "${limit}" "$@" > "${out}/${name}.log" 2>&1 || code=$?
  local word=ok
  if [[ ${code} -eq 124 || ${code} -eq 137 ]]; then word="past its ${limit} s"; fi
  if [[ ${code} -ne 0 && "${word}" == ok ]]; then word="failed (${code})"; fi
  [[ ${code} -eq 0 ]] || failed=1
  printf '{"part": "%s", "seconds": %d, "code": %d}\n' "${name}" $((SECONDS - start)) "${code}" \
    >> "${out}/parts.jsonl"
  echo "== ${name}: ${word}, $((SECONDS - start)) s"
  grep -E '^\[  (PASSED|FAILED|SKIPPED)|ERROR SUMMARY|RACECHECK SUMMARY' "${out}/${name}.log" |
    tail -4
  return 0
}

# many TEST OUT: GPU_BATCHES random batches, by a process a core, each with a seed of its own.
many() {
  local count seed code=0
  local -a processes=()
  count=$(nproc)
  for seed in $(seq "${count}"); do
    TMPDIR=${BATCHES_DIR:-/dev/shm} TIERCEL_GPU_SEED=${seed} \
      TIERCEL_GPU_BATCHES=$((${GPU_BATCHES:-100000} / count)) "$1" > "$2/hbm_${seed}.txt" 2>&1 &
    processes+=($!)
  done
  for seed in $(seq "${count}"); do
    if wait "${processes[seed - 1]}"; then
      rm "$2/hbm_${seed}.txt"
    else
      code=$?
      tail -20 "$2/hbm_${seed}.txt"
    fi
  done
  echo "${count} processes of $((${GPU_BATCHES:-100000} / count)) batches each"
  return "${code}"
}
export -f many

run() {
  local dir=$1
  if [[ ! -f "${dir}" && ! -d "${dir}/bin" ]]; then
    echo "gpu-bench.sh: ${dir} is nothing that was packed: scripts/gpu-bench.sh pack DIR" >&2
    return 2
  fi
  scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/tiercel-gpu.XXXXXX")
  trap 'rm -rf "${scratch}"' EXIT
  if [[ -f "${dir}" ]]; then
    mkdir "${scratch}/pack"
    tar -C "${scratch}/pack" -xzf "${dir}"
    dir=${scratch}/pack
  fi
  dir=$(cd "${dir}" && pwd)
  out=$2
  mkdir -p "${out}"
  rm -f "${out}/parts.jsonl"
  export LD_LIBRARY_PATH=${dir}/lib${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}}
  TIERCEL_SOURCE_DIR=$(pwd)
  export TIERCEL_SOURCE_DIR
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader \
    > "${out}/gpu.txt" 2>&1 || true
  cat "${out}/gpu.txt"
  for test in "${tests[@]}"; do
    if [[ "${test}" != hbm_cuda_test ]]; then part "${test}" 60 "${dir}/bin/${test}"; fi
  done
  part hbm_cuda_test 120 bash -c 'many "$@"' _ "${dir}/bin/hbm_cuda_test" "${out}"
  if [[ -x "${dir}/bin/engram_layer_cuda_test" ]]; then
    part engram_layer_cuda_test 60 "${dir}/bin/engram_layer_cuda_test"
  fi
  if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
      for test in gather_cuda_test hash_cuda_test hbm_cuda_test; do
        TIERCEL_GPU_BATCHES=40 part "${tool}_${test}" 40 compute-sanitizer --tool "${tool}" \
          --error-exitcode 9 "${dir}/bin/${test}"
      done
    done
  else
    echo "== no compute-sanitizer on the PATH: left out"
  fi
  part benches 120 "${dir}/bin/gpu_bench" --json "${out}/gpu_bench.json" \
    --only gather,upload,graph,hash
  part make_checkpoint 90 "${dir}/bin/tiercel" make-checkpoint --like deepseek-v4.1-flash \
    --shrink "${SHRINK:-16}" --seed 1 --tables-only --out "${scratch}/checkpoint"
  part replay 150 "${dir}/bin/gpu_bench" --json "${out}/gpu_replay.json" --only replay \
    --checkpoint "${scratch}/checkpoint" --trace "${TRACE:-${dir}/trace.u32}" \
    --token-map tests/data/token_map_v3.u32 --trace-tokens "${TRACE_TOKENS:-80000}" \
    --hbm "${HBM_BYTES:-268435456}" --dram "${DRAM_BYTES:-1073741824}"
  echo "== results in ${out}: parts.jsonl, gpu_bench.json, gpu_replay.json, *.log"
  return "${failed}"
}

case "${1:-}:$#" in
  pack:2) pack "$2" ;;
  run:3) run "$2" "$3" ;;
  *)
    sed -n '2,24p' "$0" >&2
    exit 2
    ;;
esac

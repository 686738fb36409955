#!/usr/bin/env bash
# Installs what Tiercel is built from, with apt, on Debian 12 and Ubuntu 24.04.
# Does nothing where everything is there already.
#
#   scripts/install-deps.sh [build] [dev] [bench]
#
#   build  compilers, libraries, test tools: `make test` and `make demo` (default)
#   dev    also clang, lld, clang-format, clang-tidy and libFuzzer: `make format`, `make fuzz`
#   bench  also fio, which Tiercel is compared with: `make bench`
#
# TIERCEL_NO_INSTALL=1 skips the check: for machines whose packages come from
# elsewhere. CMake then names what it misses.
set -euo pipefail

build_packages=(
  build-essential cmake ninja-build pkg-config ccache git
  liburing-dev libhwloc-dev libicu-dev libzstd-dev zstd librocksdb-dev
  libfmt-dev nlohmann-json3-dev libcli11-dev libxxhash-dev
  libgtest-dev libgmock-dev libbenchmark-dev pybind11-dev
  python3-dev python3-numpy python3-xxhash python3-pytest python3-pip python3-venv
)
# libclang-rt-dev brings the sanitizer and fuzzer runtimes of the default clang.
dev_packages=(clang clang-format clang-tidy libclang-rt-dev lld)
bench_packages=(fio)

groups=("$@")
if [[ ${#groups[@]} -eq 0 ]]; then
  groups=(build)
fi
wanted=("${build_packages[@]}")
for group in "${groups[@]}"; do
  case "${group#--}" in
    build) ;;
    dev) wanted+=("${dev_packages[@]}") ;;
    bench) wanted+=("${bench_packages[@]}") ;;
    *)
      echo "install-deps: unknown group '${group}'; there are build, dev and bench" >&2
      exit 2
      ;;
  esac
done

if [[ "${TIERCEL_NO_INSTALL:-0}" == 1 ]]; then
  exit 0
fi

if ! command -v apt-get > /dev/null || ! command -v dpkg-query > /dev/null; then
  cat >&2 << EOF
install-deps: this system has no apt, so nothing was installed. Tiercel needs
  g++ >= 12 or clang >= 14, cmake >= 3.25, ninja, pkg-config, zstd (program)
  and the development files of: liburing >= 2.3, hwloc, ICU >= 70, zstd, RocksDB >= 7, fmt >= 9,
  nlohmann-json >= 3.10, CLI11, xxHash, GoogleTest (with gmock), Google Benchmark,
  pybind11, Python 3 with NumPy, pytest and pip; for \`make bench\` also fio (program).
The Debian names are:
  ${wanted[*]}
Install them, then run this again with TIERCEL_NO_INSTALL=1 in the environment.
EOF
  exit 1
fi

# dpkg-query names unknown packages on stderr and exits with 1; what matters is
# which of the wanted ones are listed as installed.
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${wanted[@]}" 2> /dev/null |
  awk '$2 == "installed" { print $1 }' || true)
missing=()
for package in "${wanted[@]}"; do
  if ! grep -qxF "${package}" <<< "${installed}"; then
    missing+=("${package}")
  fi
done
if [[ ${#missing[@]} -eq 0 ]]; then
  exit 0
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo > /dev/null; then
    echo "install-deps: not root, and there is no sudo. As root, run:" >&2
    echo "  apt-get update && apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "install-deps: installing ${missing[*]}"
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 "$@" < /dev/null
}
if ! apt update; then
  echo "install-deps: apt-get update failed; trying with the package lists that are there" >&2
fi
if ! apt install -y --no-install-recommends "${missing[@]}"; then
  echo "install-deps: apt-get could not install all of: ${missing[*]}" >&2
  echo "install-deps: Debian 12 and Ubuntu 24.04 (with 'universe') have them all" >&2
  exit 1
fi

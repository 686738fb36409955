#!/usr/bin/env bash
# Installs the Python package out of a finished build into a virtual environment of its
# own, without the network, then uses it from a folder where nothing else can be meant.
#
#   scripts/check-pip.sh BUILD_DIR
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=$(cd "${1:?usage: scripts/check-pip.sh BUILD_DIR}" && pwd)
unset PYTHONPATH

# The interpreter that the module was built for.
python=$(sed -n 's/^_Python_EXECUTABLE:INTERNAL=//p' "${build_dir}/CMakeCache.txt")
python=${python:-/usr/bin/python3}
work=$(mktemp -d "${build_dir}/pip.XXXXXX")
trap 'rm -rf "${work}"' EXIT

"${python}" -m venv --system-site-packages "${work}/venv"
"${work}/venv/bin/python" -m pip install --quiet --no-index --disable-pip-version-check \
  --config-settings build-dir="${build_dir}" "${source_dir}"
cd "${work}"
"${work}/venv/bin/python" - << 'PYTHON'
import sys, tiercel
assert tiercel.__file__.startswith(sys.prefix), tiercel.__file__
tiercel.make_checkpoint("checkpoint", like="engram-demo", shrink=100, tables_only=True)
with tiercel.Store("checkpoint", dram_budget_bytes=32 << 20) as store:
    layer = store.layers[0]
    rows = store.lookup([1, 2, 3], layer)
    ids = store.hasher.row_ids([1, 2, 3], layer)
    wanted = tiercel.synthetic_rows(store.checkpoint, layer, ids.ravel())
    assert wanted.any() and (rows.reshape(wanted.shape) == wanted).all()
print("check-pip: ok,", tiercel.__version__)
PYTHON

#!/usr/bin/env python3
"""Cuts tests/data/sample_trace.* out of a larger trace.

    scripts/make-sample-trace.py TRACE_DIR [OUT_DIR]

TRACE_DIR holds dev.tokens.u32.zst (little-endian uint32 token ids, zstd),
dev.offsets.u64 (document boundaries, little-endian uint64, first 0) and
dev.kinds.json (the kind of each document). Taken are all PostgreSQL documents
and, in the trace's order, Python documents until there are a million tokens; they
are written in the trace's order, whole. Needs the `zstd` program and nothing else.
"""

import array
import json
import pathlib
import subprocess
import sys

TOKENS_MIN = 1_000_000


def read_u64(path: pathlib.Path) -> array.array:
    numbers = array.array("Q")
    numbers.frombytes(path.read_bytes())
    return numbers


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    source = pathlib.Path(sys.argv[1])
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else default

    kinds = json.loads((source / "dev.kinds.json").read_text())
    offsets = read_u64(source / "dev.offsets.u64")
    if offsets[0] != 0 or len(offsets) != len(kinds) + 1:
        print(f"{source}: {len(kinds)} kinds do not fit {len(offsets)} offsets", file=sys.stderr)
        return 3
    size = {i: offsets[i + 1] - offsets[i] for i in range(len(kinds))}

    taken = {i for i, kind in enumerate(kinds) if kind == "postgres"}
    total = sum(size[i] for i in taken)
    for i, kind in enumerate(kinds):
        if total >= TOKENS_MIN:
            break
        if kind == "python":
            taken.add(i)
            total += size[i]

    tokens = subprocess.run(["zstd", "-dc", str(source / "dev.tokens.u32.zst")],
                            check=True, stdout=subprocess.PIPE).stdout
    if len(tokens) != 4 * offsets[-1]:
        print(f"{source}: {len(tokens)} B of tokens, {4 * offsets[-1]} expected", file=sys.stderr)
        return 3

    cut = bytearray()
    bounds = array.array("Q", [0])
    for i in sorted(taken):
        cut += tokens[4 * offsets[i]:4 * offsets[i + 1]]
        bounds.append(len(cut) // 4)

    (target / "sample_trace.offsets.u64").write_bytes(bounds.tobytes())
    packed = target / "sample_trace.tokens.u32.zst"
    subprocess.run(["zstd", "-19", "-q", "-f", "-o", str(packed)], input=bytes(cut), check=True)
    print(f"{len(taken)} documents, {len(cut) // 4} tokens, {packed.stat().st_size} B packed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

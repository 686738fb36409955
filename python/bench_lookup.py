#!/usr/bin/env python3
"""What a lookup costs through Python, beside the same lookup in C++.

    PYTHONPATH=build/release/python python/bench_lookup.py build/release/bench/lookup_bench

Both do the same: a store that is cold looks up batches of 2,048 tokens, in all layers of a
made V4.1 table, into memory that is used again ("mixed": some n-grams repeat, most are
read from disk); then one batch over and over ("hits": all from DRAM). The two take turns,
several rounds; what is printed are medians over all rounds and their ratio.

"one token" is a decode step's lookup, where what Python adds weighs most; it has no
counterpart and is given in microseconds.
"""

import argparse
import gc
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

# Beside this file lie the sources of the package, without the extension: not those.
sys.path.remove(str(pathlib.Path(__file__).resolve().parent))
import tiercel  # noqa: E402


def make_tokens(batches, batch_tokens):
    """Half of the tokens from few, so that n-grams repeat as they do in text."""
    random = np.random.default_rng(1)
    count = batches * batch_tokens
    few = random.integers(0, 40, count)
    many = random.integers(0, 90_000, count)
    return np.where(random.integers(0, 2, count) == 0, few, many).astype(np.int32)


def timed(call):
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def run_python(checkpoint, tokens, batch_tokens, repeats):
    times = {"mixed": [], "hits": [], "one token": []}
    with tiercel.Store(checkpoint, scales="disk") as store:
        columns = store.checkpoint.recipe.column_count
        shape = (batch_tokens, columns)
        out = {
            layer: np.zeros((*shape, store.row_size_bytes(layer)), np.uint8)
            for layer in store.layers
        }
        status = {layer: np.zeros(shape, np.uint8) for layer in store.layers}
        batches = tokens.reshape(-1, batch_tokens)
        for batch in batches:
            times["mixed"].append(
                timed(lambda: store.lookup_layers(batch, out=out, status=status))
            )
        for _ in range(repeats):
            times["hits"].append(
                timed(lambda: store.lookup_layers(batches[0], out=out, status=status))
            )
        layer = store.layers[0]
        row, row_status = out[layer][:1], status[layer][:1]
        history, token = batches[0][:3], batches[0][3:4]
        for _ in range(20 * repeats):
            times["one token"].append(
                timed(lambda: store.lookup(token, layer, history, out=row, status=row_status))
            )
    return times


def run_cpp(program, checkpoint, token_path, batch_tokens, repeats):
    command = [program, checkpoint, token_path, str(batch_tokens), str(repeats)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    times = {"mixed": [], "hits": []}
    for line in output.splitlines():
        name, nanoseconds = line.split()
        times[name].append(int(nanoseconds))
    return times


def report(python, cpp):
    print(f"{'':10} {'Python':>12} {'C++':>12} {'ratio':>7}   samples of each")
    for name in ("hits", "mixed"):
        ours, theirs = statistics.median(python[name]), statistics.median(cpp[name])
        print(f"{name:10} {ours / 1e6:9.3f} ms {theirs / 1e6:9.3f} ms {ours / theirs:7.3f}   "
              f"{len(python[name])}, {len(cpp[name])}")
    one = statistics.median(python["one token"])
    print(f"{'one token':10} {one / 1e3:9.2f} us {'':15} {'':7}  {len(python['one token'])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="lookup_bench of the build tree")
    parser.add_argument("--dir", help="where the table is made (default: a temporary folder)")
    parser.add_argument("--shrink", type=int, default=1000, help="of the table: 1 is 202.8 GB")
    parser.add_argument("--batch", type=int, default=2048, help="tokens of a batch")
    parser.add_argument("--batches", type=int, default=4, help="cold batches a round")
    parser.add_argument("--repeats", type=int, default=40, help="warm lookups a round")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=flags.dir) as folder:
        checkpoint = str(pathlib.Path(folder) / "checkpoint")
        tiercel.make_checkpoint(checkpoint, shrink=flags.shrink, tables_only=True)
        tokens = make_tokens(flags.batches, flags.batch)
        token_path = str(pathlib.Path(folder) / "tokens")
        tokens.tofile(token_path)
        python = {"mixed": [], "hits": [], "one token": []}
        cpp = {"mixed": [], "hits": []}
        for _ in range(flags.rounds):
            rounds = (
                (python, run_python(checkpoint, tokens, flags.batch, flags.repeats)),
                (cpp, run_cpp(flags.program, checkpoint, token_path, flags.batch, flags.repeats)),
            )
            for total, times in rounds:
                for name, values in times.items():
                    total[name] += values
            gc.collect()
    report(python, cpp)


if __name__ == "__main__":
    main()

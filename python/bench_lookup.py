#!/usr/bin/env python3
"""What a lookup costs through Python, beside the same lookup in C++.

    PYTHONPATH=build/release/python python/bench_lookup.py build/release/bench/lookup_bench

Both do the same: a store that is cold looks up batches of 2,048 tokens, in all layers of a
made V4.1 table, into memory that is used again ("mixed": some n-grams repeat, most are
read from disk); then one batch over and over ("hits": all from DRAM). They take turns,
lookup by lookup, so that what else the machine does meets both. Printed are medians, and
the median of the ratios of the pairs.

"one token" is a decode step's lookup, where what Python adds weighs most; it has no
counterpart and is given in microseconds.
"""

import argparse
import contextlib
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


class PythonSide:
    """A store, and the memory that its batches are written to."""

    def __init__(self, checkpoint, tokens, batch_tokens):
        self.store = tiercel.Store(checkpoint, scales="disk")
        self.batches = tokens.reshape(-1, batch_tokens)
        shape = (batch_tokens, self.store.checkpoint.recipe.column_count)
        self.out = {
            layer: np.zeros((*shape, self.store.row_size_bytes(layer)), np.uint8)
            for layer in self.store.layers
        }
        self.status = {layer: np.zeros(shape, np.uint8) for layer in self.store.layers}

    def lookup(self, batch):
        tokens = self.batches[batch]
        return timed(
            lambda: self.store.lookup_layers(tokens, out=self.out, status=self.status)
        )

    def one_token(self):
        layer = self.store.layers[0]
        out, status = self.out[layer][:1], self.status[layer][:1]
        history, token = self.batches[0][:3], self.batches[0][3:4]
        return timed(lambda: self.store.lookup(token, layer, history, out=out, status=status))

    def close(self):
        self.store.close()


class CppSide:
    """The program that does the same."""

    def __init__(self, program, checkpoint, token_path, batch_tokens):
        self.process = subprocess.Popen(
            [program, checkpoint, token_path, str(batch_tokens)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def lookup(self, batch):
        print(batch, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def run_round(python, cpp, batches, repeats, pairs):
    """Adds (Python, C++) times of lookups that follow each other, in turns."""
    for name, order in (("mixed", range(batches)), ("hits", [0] * repeats)):
        for i, batch in enumerate(order):
            if i % 2 == 0:
                ours, theirs = python.lookup(batch), cpp.lookup(batch)
            else:
                theirs, ours = cpp.lookup(batch), python.lookup(batch)
            pairs[name].append((ours, theirs))


def report(pairs, one_token):
    print(f"{'':10} {'Python':>12} {'C++':>12} {'ratio':>7}   pairs")
    for name in ("hits", "mixed"):
        ours, theirs = (statistics.median(times) for times in zip(*pairs[name]))
        ratio = statistics.median(ours / theirs for ours, theirs in pairs[name])
        print(f"{name:10} {ours / 1e6:9.3f} ms {theirs / 1e6:9.3f} ms {ratio:7.3f}   "
              f"{len(pairs[name])}")
    print(f"{'one token':10} {statistics.median(one_token) / 1e3:9.2f} us")


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
        pairs = {"mixed": [], "hits": []}
        one_token = []
        for _ in range(flags.rounds):
            with contextlib.ExitStack() as stack:
                cpp = CppSide(flags.program, checkpoint, token_path, flags.batch)
                stack.callback(cpp.close)
                python = PythonSide(checkpoint, tokens, flags.batch)
                stack.callback(python.close)
                run_round(python, cpp, flags.batches, flags.repeats, pairs)
                one_token += [python.one_token() for _ in range(20 * flags.repeats)]
    report(pairs, one_token)


if __name__ == "__main__":
    main()

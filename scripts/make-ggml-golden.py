#!/usr/bin/env python3
"""Rows of ggml's block formats and their values, for tests/data/golden/ggml_rows.json.

    scripts/make-ggml-golden.py > tests/data/golden/ggml_rows.json

A scalar implementation of its own, value by value in exact arithmetic: it follows the written
layouts (docs/format.md), not the library's code. Each expected value is rounded once to float32.
"""

import json
import random
import struct
from fractions import Fraction


def half(block, at):
    return Fraction(struct.unpack_from("<e", block, at)[0])


def float_bits(value, negative_zero):
    """The float32 nearest to an exact value, ties to even."""
    if value == 0:
        return 0x80000000 if negative_zero else 0
    sign, magnitude = (0x80000000, -value) if value < 0 else (0, value)
    exponent = 0
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while magnitude < Fraction(2) ** exponent:
        exponent -= 1
    exponent = max(exponent, -126)
    steps = magnitude / Fraction(2) ** (exponent - 23)
    whole = steps.numerator // steps.denominator
    rest = steps - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1):
        whole += 1
    # A whole of 2^24 carries into the exponent by itself.
    return sign | ((exponent + 126) * (1 << 23) + whole)


def product(*factors):
    """A product, and whether it is a zero with a minus sign."""
    value, minus = Fraction(1), False
    for factor in factors:
        value *= factor
        minus ^= factor < 0
    return value, value == 0 and minus


def q8_0(block, i):
    return product(half(block, 0), struct.unpack_from("<b", block, 2 + i)[0])


def difference(first, second):
    # Scales are positive here: x - x is +0, and so is 0 - 0.
    return first[0] - second[0], False


def q4_k(block, i):
    scales, quants = block[4:16], block[16:]
    group, bits = i // 32, {}
    # 12 bytes hold 16 numbers of 6 bits: 8 scales, then 8 mins.
    for j in range(4):
        bits["scale", j] = scales[j] % 64
        bits["min", j] = scales[j + 4] % 64
        bits["scale", j + 4] = scales[j + 8] % 16 + scales[j] // 64 * 16
        bits["min", j + 4] = scales[j + 8] // 16 + scales[j + 4] // 64 * 16
    byte = quants[i // 64 * 32 + i % 32]
    q = byte // 16 if group % 2 else byte % 16
    return difference(
        product(half(block, 0), bits["scale", group], q), product(half(block, 2), bits["min", group])
    )


def q3_k(block, i):
    high, low, packed = block[:32], block[32:96], block[96:108]
    # Four words' worth of bytes: low nibbles, high nibbles, and pairs on top of them.
    nibbles = [b % 16 for b in packed[:8]] + [b // 16 for b in packed[:8]]
    scales = [
        nibbles[j] + 16 * ((packed[8 + j % 4] // (1, 4, 16, 64)[j // 4]) % 4) for j in range(16)
    ]
    half_index, rest = divmod(i, 128)
    pair, place = divmod(rest, 32)
    q = (low[32 * half_index + place] // 4**pair) % 4
    if (high[place] // 2 ** (4 * half_index + pair)) % 2 == 0:
        q -= 4
    return product(half(block, 108), scales[i // 16] - 32, q)


def q2_k(block, i):
    scales, quants = block[:16], block[16:80]
    half_index, rest = divmod(i, 128)
    pair, place = divmod(rest, 32)
    q = (quants[32 * half_index + place] // 4**pair) % 4
    of = scales[i // 16]
    return difference(product(half(block, 80), of % 16, q), product(half(block, 82), of // 16))


FORMATS = {
    "q8_0": (q8_0, 32, 34, (0,)),
    "q4_k": (q4_k, 256, 144, (0, 2)),
    "q3_k": (q3_k, 256, 110, (108,)),
    "q2_k": (q2_k, 256, 84, (80, 82)),
}
# Usual scales, the largest half, the smallest one, and two far apart.
HALVES = [(0x2D3A, 0x2A11), (0x7BFF, 0x7BFF), (0x0001, 0x0001), (0x4CCD, 0x0155)]


def main():
    rng = random.Random(20260727)
    cases = []
    for name, (value_of, value_count, size, offsets) in FORMATS.items():
        row, values = b"", []
        for halves in HALVES:
            block = bytearray(rng.randrange(256) for _ in range(size))
            for at, bits in zip(offsets, halves):
                struct.pack_into("<H", block, at, bits)
            row += bytes(block)
            values += [float_bits(*value_of(bytes(block), i)) for i in range(value_count)]
        cases.append(
            {"format": name, "row": row.hex(), "values": "".join("%08x" % bits for bits in values)}
        )
    source = "scripts/make-ggml-golden.py; values are float32 bits, big-endian hex"
    print(json.dumps({"source": source, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Reads rows of a packed table with nothing but docs/format.md, and checks them.

packed_reader.py DIR LAYER 0,17,100 prints rows as `tiercel lookup` does. Checksums need xxhash.
"""
import json
import struct
import sys

try:
    from xxhash import xxh3_64_intdigest
except ImportError:
    xxh3_64_intdigest = None
    print("packed_reader: no xxhash: checksums are not checked", file=sys.stderr)

def check(what, data, seed, expected):
    if xxh3_64_intdigest and xxh3_64_intdigest(data, seed=seed) != expected:
        sys.exit(f"packed_reader: {what}: its checksum does not hold")

def read_manifest(directory):
    with open(f"{directory}/manifest.json", "rb") as file:
        text = file.read()
    manifest = json.loads(text)
    if (manifest["format"], manifest["version"]) != ("tiercel-packed", 1):
        sys.exit("packed_reader: not a packed table of version 1")
    body = text[: text.rindex(b',\n "checksum": "')]
    check("manifest.json", body, 0, int(manifest["checksum"], 16))
    return manifest

def read_row(file, layer, row):
    per_page, row_bytes = layer["rows_per_page"], layer["row_bytes"]
    page = 1  # After the header's.
    for first, end in layer["ranges"]:
        if first <= row < end:
            break
        page += -(-(end - first) // per_page)
    else:
        sys.exit(f"packed_reader: row {row} is not here")
    page += (row - first) // per_page
    slot = (row - first) % per_page
    file.seek(page * layer["page_bytes"])
    data = file.read(layer["page_bytes"])
    seal, first_of_page = struct.unpack_from("<QQ", data)
    check(f"page {page}", data[8:16], int(layer["tag"], 16), seal)
    if first_of_page != row - slot:
        sys.exit(f"packed_reader: page {page} is another one's")
    at = 16 + 8 * per_page + slot * row_bytes
    stored = data[at : at + row_bytes]
    check(f"row {row}", stored, row, *struct.unpack_from("<Q", data, 16 + 8 * slot))
    return stored

def main(directory, layer_id, rows):
    layers = {layer["layer"]: layer for layer in read_manifest(directory)["layers"]}
    layer = layers[int(layer_id)]
    with open(f"{directory}/{layer['file']}", "rb") as file:
        for row in map(int, rows.split(",")):
            print(f"{row}  {read_row(file, layer, row).hex()}")

if __name__ == "__main__":
    main(*sys.argv[1:])

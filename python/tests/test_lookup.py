"""Goal: what a lookup writes, and where it may write.

Method: every byte is compared with hasher and seed (synthetic_rows), never with another
lookup.
"""

import array

import numpy as np
import pytest
from conftest import COLUMNS, LAYERS, ROW_BYTES, random_tokens, runs_beside

import tiercel


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("format", ["stored", "bf16"])
def test_rows_are_those_of_the_hasher(store, expected, layer, format):
    tokens = random_tokens(1, 300)
    tokens[17] = tiercel.DEAD_TOKEN
    rows = store.lookup(tokens, layer, format=format)
    wanted = expected(tokens, layer, format)
    assert rows.dtype == (np.uint8 if format == "stored" else np.uint16)
    assert rows.shape == (300, COLUMNS, ROW_BYTES if format == "stored" else 256)
    assert wanted.any()
    np.testing.assert_array_equal(rows, wanted)
    assert store.row_size_bytes(layer, format) == rows[0, 0].nbytes


def as_memoryview(tokens):
    return memoryview(np.ascontiguousarray(tokens, np.int32))


def strided(tokens):
    return np.repeat(np.asarray(tokens, np.int64), 2)[::2]


def unaligned(tokens):
    raw = bytearray(1 + 4 * len(tokens))
    raw[1:] = np.asarray(tokens, np.int32).tobytes()
    return np.frombuffer(raw, np.uint8)[1:].view(np.int32)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        lambda tokens: np.asarray(tokens, np.int32),
        lambda tokens: np.asarray(tokens, np.int64),
        lambda tokens: np.asarray(tokens, np.uint32),
        lambda tokens: array.array("i", tokens),
        as_memoryview,
        strided,
        unaligned,
    ],
)
def test_all_kinds_of_token_arrays_hash_alike(store, convert):
    tokens = [int(token) for token in random_tokens(2, 20)]
    wanted = store.hasher.row_ids(np.asarray(tokens, np.int32), 1)
    np.testing.assert_array_equal(store.hasher.row_ids(convert(tokens), 1), wanted)
    # The tail of a sequence, with the rest as its history.
    tail = store.hasher.row_ids(convert(tokens[9:]), 1, history=convert(tokens[:9]))
    np.testing.assert_array_equal(tail, wanted[9:])
    pairs = [(convert(tokens[:9]), convert(tokens[9:])), (None, convert(tokens[:4]))]
    both = store.hasher.row_ids(pairs, 1)
    np.testing.assert_array_equal(both, np.concatenate([wanted[9:], wanted[:4]]))


def test_runs_with_history(store, expected):
    runs = [tiercel.TokenRun([1, 2, 3], [4, 5]), ((), np.arange(7)), (None, [9])]
    for layer, rows in store.lookup_layers(runs).items():
        np.testing.assert_array_equal(rows, expected(runs, layer))


def test_no_tokens(store):
    assert store.lookup([], 1).shape == (0, COLUMNS, ROW_BYTES)
    assert store.lookup(np.empty(0), 1).shape == (0, COLUMNS, ROW_BYTES)
    assert store.lookup_rows([], 1).shape == (0, ROW_BYTES)


@pytest.mark.parametrize(
    "runs, error, words",
    [
        ([1, 2**31], tiercel.InvalidArgumentError, r"\[1\] is 2147483648, which is no int32"),
        ([1, 2**70], tiercel.InvalidArgumentError, "beyond 64 bits"),
        (np.array([0, -(2**40)]), tiercel.InvalidArgumentError, r"\[1\] is -1099511627776"),
        (np.array([1.5]), TypeError, "does not hold integers"),
        ([1, "2"], TypeError, "an int is wanted"),
        (np.zeros((2, 2), np.int32), tiercel.InvalidArgumentError, "2 dimensions; one is wanted"),
        ([([1], [2]), [3, 4]], TypeError, r"runs\[1\] is no \(history, tokens\) tuple"),
        ([1, 200_000], tiercel.InvalidArgumentError, "200000"),
        (object(), TypeError, "buffer protocol"),
        ("text", TypeError, "str"),
    ],
)
def test_wrong_tokens_are_named(store, runs, error, words):
    with pytest.raises(error, match=words):
        store.lookup(runs, 1)


def test_rows_by_id(store, checkpoint):
    info = store.checkpoint
    count = info.layers[0].row_count
    ids = np.array([0, 5, 5, count - 1])
    wanted = tiercel.synthetic_rows(info, 1, ids)
    for given in (ids, ids.astype(np.uint64), ids.astype(np.int32), ids.tolist()):
        np.testing.assert_array_equal(store.lookup_rows(given, 1), wanted)


def destinations():
    """Pairs of a destination of two tokens' rows, and how to read it as bytes."""
    bytes_wanted = 2 * COLUMNS * ROW_BYTES
    plain = np.zeros((2, COLUMNS, ROW_BYTES), np.uint8)
    words = np.zeros(bytes_wanted // 4, np.float32)
    buffer = bytearray(bytes_wanted)
    items = array.array("H", bytes(bytes_wanted))
    return [
        (plain, lambda: plain.tobytes()),
        (words, lambda: words.tobytes()),
        (buffer, lambda: bytes(buffer)),
        (memoryview(buffer), lambda: bytes(buffer)),
        (items, lambda: items.tobytes()),
    ]


@pytest.mark.parametrize("which", range(5))
def test_destinations(store, expected, which):
    out, read = destinations()[which]
    assert store.lookup([3, 4], 1, out=out) is out
    assert read() == expected([3, 4], 1).tobytes()


@pytest.mark.parametrize(
    "out, words",
    [
        (np.zeros(5, np.uint8), r"shape \[5\] of 1 B items; 48 rows of 264 B are wanted"),
        (np.zeros((2, COLUMNS, 2 * ROW_BYTES), np.uint8)[:, :, ::2], "contiguous|touch"),
        (np.zeros((2, COLUMNS, 272), np.uint8)[:, :, :264], "in contiguous memory"),
        (np.broadcast_to(np.zeros(ROW_BYTES, np.uint8), (2, COLUMNS, ROW_BYTES)), "read-only"),
        (bytes(2 * COLUMNS * ROW_BYTES), "read-only"),
    ],
)
def test_wrong_destinations_are_refused(store, out, words):
    with pytest.raises(tiercel.InvalidArgumentError, match=words):
        store.lookup([3, 4], 1, out=out)


def test_statuses_go_where_they_are_wanted(store):
    status = np.full((3, COLUMNS), 99, np.uint8)
    store.lookup([3, -1, 4], 1, status=status)
    # V4.1's dead tokens are sticky: an n-gram that reaches over one is dead as well.
    assert (status[0] == tiercel.RowStatus.OK).all()
    assert (status[1] == tiercel.RowStatus.DEAD).all()
    rows = np.zeros((3, COLUMNS, ROW_BYTES), np.uint8)
    statuses = {1: np.full(3 * COLUMNS, 99, np.uint8)}
    found = store.lookup_layers([3, -1, 4], out={1: rows}, status=statuses)
    assert found[1] is rows and set(found) == set(LAYERS)
    np.testing.assert_array_equal(statuses[1].reshape(3, COLUMNS), status)


def test_a_bad_row_is_raised_with_all_rows(store):
    count = store.checkpoint.layers[0].row_count
    with pytest.raises(tiercel.PartialError) as caught:
        store.lookup_rows([7, count, -1], 1)
    error = caught.value
    assert error.code == "PARTIAL"
    assert error.row_status.tolist() == [0, 2, 2]
    np.testing.assert_array_equal(
        error.rows[:1], tiercel.synthetic_rows(store.checkpoint, 1, [7])
    )
    assert not error.rows[1:].any()

    status = np.zeros(3, np.uint8)
    rows = store.lookup_rows([7, count, -1], 1, status=status, on_partial="return")
    np.testing.assert_array_equal(rows, error.rows)
    assert status.tolist() == [0, 2, 2]


def test_a_file_that_ends_early_marks_its_rows(tmp_path, expected):
    path = tmp_path / "checkpoint"
    tiercel.make_checkpoint(path, shrink=20000, seed=7, tables_only=True)
    tokens = random_tokens(3, 200)
    with tiercel.Store(path, dram_budget_bytes=32 << 20, scales="disk") as store:
        for file in {file.path for file in store.checkpoint.files}:
            with open(file, "r+b") as shard:
                shard.truncate(shard.seek(0, 2) // 2)
        with pytest.raises(tiercel.PartialError) as caught:
            store.lookup_layers(tokens)
    for layer in LAYERS:
        status = caught.value.row_status[layer]
        assert set(np.unique(status)) == {tiercel.RowStatus.OK, tiercel.RowStatus.CORRUPTION}
        wanted = expected(tokens, layer)
        wanted[status != tiercel.RowStatus.OK] = 0
        np.testing.assert_array_equal(caught.value.rows[layer], wanted)


def test_the_gil_is_let_go(store, checkpoint):
    tokens = random_tokens(4, 2048)
    hasher = store.hasher
    one = [5]
    # The probe can tell: a short hash keeps the GIL.
    assert not runs_beside(lambda: hasher.row_ids(one, 1), 1000)
    assert runs_beside(lambda: hasher.row_ids(tokens, 1), 1000)
    assert runs_beside(lambda: store.lookup(tokens, 1), 1000)
    assert runs_beside(lambda: store.lookup_rows([1, 2, 3], 1), 10000)
    assert runs_beside(
        lambda: tiercel.Store(checkpoint, dram_budget_bytes=32 << 20).close(), 100
    )

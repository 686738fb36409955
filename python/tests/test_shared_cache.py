"""Goal: a process reads the DRAM cache of another one's store: what it finds is right to the byte."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import COLUMNS, LAYERS, ROW_BYTES, random_tokens

import tiercel

HEADS = 8
ORDERS = COLUMNS // HEADS

# What another process does: reads one layer's rows of some tokens out of the cache.
READER = """
import sys
import numpy as np
import tiercel

descriptor, path, layer, mixes_path, rows_path = sys.argv[1:]
mixes = np.load(mixes_path)
with tiercel.SharedCache(int(descriptor), path) as cache:
    rows, hits = cache.lookup(mixes, int(layer))
np.save(rows_path, rows)
sys.exit(0 if hits.all() else 3)
"""


@pytest.fixture
def writer(checkpoint):
    with tiercel.Store(checkpoint, dram_budget_bytes=48 << 20, shared_cache=True) as store:
        yield store


def test_another_process_reads_what_the_store_has(writer, checkpoint, expected, tmp_path):
    layer = LAYERS[0]
    tokens = random_tokens(1, 60)
    writer.lookup(tokens, layer)
    np.save(tmp_path / "mixes.npy", writer.hasher.mixes(tokens, layer))
    descriptor = writer.share_cache()
    subprocess.run(
        [sys.executable, "-c", READER, str(descriptor), checkpoint, str(layer),
         tmp_path / "mixes.npy", tmp_path / "rows.npy"],
        pass_fds=[descriptor],
        check=True,
    )
    assert np.array_equal(np.load(tmp_path / "rows.npy"), expected(tokens, layer))


def test_hits_tell_what_is_there(writer, checkpoint, expected):
    layer = LAYERS[1]
    tokens = random_tokens(2, 50)
    mixes = writer.hasher.mixes(tokens, layer)
    with tiercel.SharedCache(writer.share_cache(), checkpoint) as cache:
        assert cache.layers == LAYERS
        assert cache.size_bytes > 0
        assert not cache.has_updates
        rows, hits = cache.lookup(mixes, layer)
        assert rows.shape == (50, COLUMNS, ROW_BYTES) and hits.shape == (50, ORDERS)
        assert hits.dtype == bool and not hits.any() and not rows.any()

        writer.lookup(tokens[:20], layer)
        found, hits = cache.lookup(mixes, layer)
        assert hits[:20].all() and not hits.all()
        in_rows = np.repeat(hits, HEADS, axis=1)
        assert np.array_equal(found[in_rows], expected(tokens, layer)[in_rows])
        assert not found[~in_rows].any()

        # Into memory of the caller's.
        given = np.empty((50, COLUMNS * ROW_BYTES), np.uint8)
        flags = np.empty(50 * ORDERS, np.uint8)
        out = cache.lookup(mixes, layer, out=given, hits=flags)
        assert out[0] is given and out[1] is flags
        assert np.array_equal(flags.reshape(50, ORDERS) == 1, hits)
        assert writer.touch(mixes, layer) == hits.sum()


def test_it_outlives_the_store(checkpoint, expected):
    layer = LAYERS[0]
    tokens = random_tokens(3, 30)
    store = tiercel.Store(checkpoint, dram_budget_bytes=48 << 20, shared_cache=True)
    store.lookup(tokens, layer)
    mixes = store.hasher.mixes(tokens, layer)
    cache = tiercel.SharedCache(store.share_cache(), checkpoint)
    assert not cache.writer_closed
    store.close()
    assert cache.writer_closed
    rows, hits = cache.lookup(mixes, layer)
    assert hits.all() and np.array_equal(rows, expected(tokens, layer))
    cache.close()
    assert cache.closed
    with pytest.raises(tiercel.InvalidArgumentError, match="closed"):
        cache.lookup(mixes, layer)


def test_a_rank_shares_its_own_heads(checkpoint):
    layer = LAYERS[0]
    tokens = random_tokens(4, 30)
    with tiercel.Store(
        checkpoint, dram_budget_bytes=48 << 20, shard=(1, 2), shared_cache=True
    ) as store:
        rows = store.lookup(tokens, layer)
        descriptor = store.share_cache()
        with pytest.raises(tiercel.InvalidArgumentError, match="shard"):
            tiercel.SharedCache(descriptor, checkpoint)
        with tiercel.SharedCache(descriptor, checkpoint, shard=(1, 2)) as cache:
            found, hits = cache.lookup(store.hasher.mixes(tokens, layer), layer)
            assert hits.all() and np.array_equal(found, rows)


def test_wrong_uses_are_refused(writer, checkpoint, store):
    with pytest.raises(tiercel.UnavailableError):
        store.share_cache()
    with pytest.raises(tiercel.InvalidArgumentError):
        tiercel.SharedCache(-1, checkpoint)
    with tiercel.SharedCache(writer.share_cache(), checkpoint) as cache:
        mixes = np.zeros((4, ORDERS), np.uint64)
        with pytest.raises(tiercel.NotFoundError, match="99"):
            cache.lookup(mixes, 99)
        with pytest.raises(tiercel.InvalidArgumentError, match="whole tokens"):
            cache.lookup(mixes.ravel()[1:], LAYERS[0])
        with pytest.raises(tiercel.InvalidArgumentError, match="contiguous array of uint64"):
            cache.lookup(mixes.astype(np.uint32), LAYERS[0])
        with pytest.raises(tiercel.InvalidArgumentError, match="contiguous array of uint64"):
            cache.lookup(mixes[:, ::2], LAYERS[0])
        with pytest.raises(TypeError):
            cache.lookup(mixes.astype(np.float64), LAYERS[0])
        with pytest.raises(tiercel.InvalidArgumentError, match="out"):
            cache.lookup(mixes, LAYERS[0], out=np.empty(5, np.uint8))

"""Goal: opening, closing, options, errors, hot sets and what a store tells about itself."""

import gc
import os
import pathlib
import re
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from conftest import COLUMNS, LAYERS, random_tokens

import tiercel


def test_error_classes(tmp_path, checkpoint):
    with pytest.raises(tiercel.NotFoundError) as caught:
        tiercel.inspect(tmp_path / "nothing")
    assert caught.value.code == "NOT_FOUND"
    assert str(tmp_path / "nothing") in str(caught.value)
    assert isinstance(caught.value, tiercel.Error)
    with pytest.raises(tiercel.AlreadyExistsError):
        tiercel.make_checkpoint(checkpoint, shrink=20000)
    with pytest.raises(tiercel.InvalidArgumentError, match="dram_budget_bytes|budget"):
        tiercel.Store(checkpoint, dram_budget_bytes=5)
    with pytest.raises(tiercel.NotFoundError, match="99"):
        tiercel.Store(checkpoint, layers=[99])
    with pytest.raises(ValueError, match="engine is 'floppy'; known are 'auto'"):
        tiercel.Store(checkpoint, engine="floppy")
    with pytest.raises(TypeError, match="queue_depht"):
        tiercel.Store(checkpoint, queue_depht=3)
    with pytest.raises(TypeError, match="queue_depth is 'deep'"):
        tiercel.Store(checkpoint, queue_depth="deep")


def test_every_code_has_a_class():
    names = {name for name in dir(tiercel) if name.endswith("Error") and name != "Error"}
    codes = {getattr(tiercel, name).code for name in names}
    assert len(codes) == len(names) == 10
    for name in names:
        assert issubclass(getattr(tiercel, name), tiercel.Error)
        # INVALID_ARGUMENT of InvalidArgumentError; IO_ERROR keeps its last word.
        words = "_".join(re.findall("[A-Z][a-z]+", name)).upper()
        assert getattr(tiercel, name).code in (words, words.removesuffix("_ERROR"))


def test_options_reach_the_store(checkpoint):
    with tiercel.Store(
        checkpoint,
        dram_budget_bytes=32 << 20,
        engine="pread",
        queue_depth=7,
        layers=[14],
        scales="disk",
        pages="plain",
        numa="none",
        disk_profile_path=None,
    ) as store:
        stats = store.stats()
        assert (stats.engine, stats.queue_depth) == ("pread", 7)
        assert stats.dram_budget_bytes == 32 << 20
        assert stats.resident_scale_bytes == 0
        assert store.layers == (14,)
        with pytest.raises(tiercel.NotFoundError):
            store.lookup([1], 1)


def test_a_closed_store(checkpoint):
    store = tiercel.Store(checkpoint, dram_budget_bytes=32 << 20)
    hasher = store.hasher
    with store as entered:
        assert entered is store and not store.closed
    assert store.closed
    store.close()
    for call in (lambda: store.lookup([1], 1), store.stats, lambda: store.hasher):
        with pytest.raises(tiercel.InvalidArgumentError, match="the store is closed"):
            call()
    assert hasher.row_ids([1], 1).shape == (1, COLUMNS)


def test_close_beside_lookups(checkpoint, expected):
    """Calls that run while another thread closes the store end as they would have."""
    tokens = random_tokens(5, 500)
    wanted = expected(tokens, 1)
    for _ in range(5):
        store = tiercel.Store(checkpoint, dram_budget_bytes=32 << 20)
        running = threading.Barrier(3)
        outcomes = []

        def look():
            running.wait()
            try:
                while True:
                    np.testing.assert_array_equal(store.lookup(tokens, 1), wanted)
                    outcomes.append("rows")
            except tiercel.InvalidArgumentError as error:
                outcomes.append(str(error))
            except AssertionError:
                outcomes.append("wrong rows")

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        running.wait()
        while "rows" not in outcomes and "wrong rows" not in outcomes:
            pass
        store.close()
        for thread in threads:
            thread.join()
        assert set(outcomes) == {"rows", "the store is closed"}


def test_checkpoint_and_stats(store, checkpoint):
    info = store.checkpoint
    assert info == tiercel.inspect(str(checkpoint))
    assert info.recipe.kind == "deepseek-v4.1"
    assert info.recipe.column_count == COLUMNS
    assert tuple(layer.layer_id for layer in info.layers) == LAYERS == store.layers
    assert info.synthetic_seed == 7
    store.lookup([1, 2, 3], 1)
    store.lookup([1, 2, 3], 1)
    orders = [order for order in store.stats().orders if order.layer_id == 1]
    assert [order.order for order in orders] == [2, 3, 4]
    assert all(order.groups == 6 and order.dram_hits == 3 for order in orders)
    assert "tiercel" in store.metrics()


def test_made_checkpoints(tmp_path):
    seen = []
    path = tmp_path / "checkpoint"
    tiercel.make_checkpoint(
        path, like="qwen3.8-flash-next", shrink=20000, fp8=True, tables_only=True,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen and seen[-1][0] <= seen[-1][1]
    report = tiercel.verify_synthetic(path)
    assert report.rows_checked == sum(layer.row_count for layer in tiercel.inspect(path).layers)
    assert (report.rows_different, report.findings) == (0, ())
    shard = next(file.path for file in tiercel.inspect(path).files)
    with open(shard, "r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    report = tiercel.verify_synthetic(path)
    assert report.rows_different == 1 and len(report.findings) == 1

    with pytest.raises(tiercel.CancelledError):
        tiercel.make_checkpoint(tmp_path / "other", shrink=20000, progress=lambda *_: False)
    with pytest.raises(ZeroDivisionError):
        tiercel.make_checkpoint(tmp_path / "other", shrink=20000, progress=lambda *_: 1 / 0)
    assert not (tmp_path / "other").exists()


def test_token_map(tmp_path, checkpoint):
    token_map = tiercel.TokenMap.from_classes([0, 1, 0, 2])
    assert (len(token_map), token_map.class_count) == (4, 3)
    token_map.save(tmp_path / "map")
    loaded = tiercel.TokenMap.load(tmp_path / "map")
    assert loaded.classes.tolist() == [0, 1, 0, 2]
    assert not loaded.classes.flags.writeable
    classes = loaded.classes
    del loaded
    gc.collect()
    assert classes.tolist() == [0, 1, 0, 2]
    with pytest.raises(tiercel.InvalidArgumentError):
        tiercel.TokenMap.from_classes([1, 0])
    with pytest.raises(tiercel.InvalidArgumentError):
        tiercel.TokenMap.from_tokenizer_json(b"{")
    with tiercel.Store(checkpoint, dram_budget_bytes=32 << 20, token_map=token_map) as store:
        mapped = store.hasher.row_ids([3, 2], 1)
        plain = tiercel.Hasher(checkpoint / "config.json").row_ids([2, 0], 1)
        np.testing.assert_array_equal(mapped, plain)
        np.testing.assert_array_equal(
            store.lookup([3, 2], 1).reshape(2 * COLUMNS, -1),
            tiercel.synthetic_rows(store.checkpoint, 1, plain.ravel()),
        )


def test_mixes(store):
    mixes, dead = store.hasher.mixes([4, -1, 5], 1, return_dead=True)
    assert (mixes.shape, mixes.dtype) == ((3, 3), np.uint64)
    assert dead.dtype == bool and dead[1] and not dead[0]
    layer = store.hasher.recipe.layers[0]
    rows = store.hasher.row_ids([4, -1, 5], 1)
    sizes = np.array(layer.head_sizes, np.uint64).reshape(3, 8)
    offsets = np.array(layer.offsets, np.uint64).reshape(3, 8)
    np.testing.assert_array_equal(
        rows.reshape(3, 3, 8), mixes[:, :, None] % sizes[None] + offsets[None]
    )


def test_hot_sets(tmp_path, checkpoint, expected):
    tokens = random_tokens(6, 400)
    path = tmp_path / "hot"
    with tiercel.Store(checkpoint, dram_budget_bytes=32 << 20) as store:
        store.lookup(tokens, 1)
        saved = store.save_hot_set(path)
        assert saved.group_count > 0 and saved.file_bytes == path.stat().st_size
    with tiercel.Store(checkpoint, dram_budget_bytes=32 << 20) as store:
        assert store.hot_set().state == "none"
        store.load_hot_set(path)
        store.wait_for_hot_set()
        assert store.hot_set().state == "loaded"
        assert store.hot_set().groups_loaded == saved.group_count
        np.testing.assert_array_equal(store.lookup(tokens, 1), expected(tokens, 1))
        assert sum(order.fetches for order in store.stats().orders) == 0


def test_a_store_and_its_log_are_collected(checkpoint):
    class Owner:
        def say(self, line):
            pass

    owner = Owner()
    owner.store = tiercel.Store(checkpoint, dram_budget_bytes=32 << 20, log=owner.say)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_the_log_says_what_falls_back(checkpoint):
    program = os.environ.get("TIERCEL_WITHOUT_IO_URING")
    if not program:
        pytest.skip("TIERCEL_WITHOUT_IO_URING does not name the program of tests/support")
    script = (
        "import sys, tiercel; lines = []\n"
        "store = tiercel.Store(sys.argv[1], dram_budget_bytes=32 << 20, log=lines.append)\n"
        "assert any('io_uring' in line for line in lines), lines\n"
        "assert store.stats().engine == 'pread' and store.stats().engine_fallback\n"
        "print('said')\n"
    )
    command = [program, "EPERM", sys.executable, "-c", script, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("seccomp filters are not to be had here")
    assert (done.returncode, done.stdout) == (0, "said\n"), done.stderr


def test_the_stubs_name_what_there_is():
    stubs = pathlib.Path(tiercel.__file__).with_name("__init__.pyi").read_text()
    for name in tiercel.__all__:
        assert re.search(rf"(^(class|def) {name}\b|as {name}$|^{name}:)", stubs, re.M), name
    for name in ("Store", "Ticket", "Hasher", "TokenMap"):
        body = re.search(rf"^class {name}:\n((    .*\n|\n)+)", stubs, re.M).group(1)
        stubbed = {method for method in re.findall(r"def (\w+)\(", body) if method != "__init__"}
        present = {
            method
            for method in vars(getattr(tiercel, name))
            if not method.startswith("_") or method in ("__enter__", "__exit__", "__len__")
        }
        assert stubbed == present, name


def test_a_shard_serves_its_heads_alone(checkpoint, store):
    tokens = random_tokens(31, 20)
    whole = store.lookup(tokens, LAYERS[0])
    heads = COLUMNS // 3  # Three orders.
    with tiercel.Store(checkpoint, dram_budget_bytes=32 << 20, shard=(1, 3)) as shard:
        rows = shard.lookup(tokens, LAYERS[0])
    local = [order * heads + head for order in range(3) for head in range(1, heads, 3)]
    np.testing.assert_array_equal(rows, whole[:, local])
    with pytest.raises(tiercel.InvalidArgumentError):
        tiercel.Store(checkpoint, shard=(3, 3))
    with pytest.raises(TypeError, match="shard is 3"):
        tiercel.Store(checkpoint, shard=3)


def test_updated_rows(checkpoint, tmp_path):
    state = tmp_path / "state"
    try:
        store = tiercel.Store(
            checkpoint, dram_budget_bytes=32 << 20, updates="read-write", state_path=state
        )
    except tiercel.UnavailableError as error:
        pytest.skip(str(error))
    layer = LAYERS[0]
    rows = np.array([3, 900, 17], dtype=np.int64)
    with store:
        size = store.row_size_bytes(layer)
        before = store.lookup_rows([4], layer).copy()
        data = np.arange(3 * size, dtype=np.uint64).astype(np.uint8).reshape(3, size)
        store.update(rows, layer, data)
        np.testing.assert_array_equal(store.lookup_rows(rows, layer), data)
        np.testing.assert_array_equal(store.lookup_rows([4], layer), before)
        with pytest.raises(tiercel.InvalidArgumentError, match="bytes for each of 3 rows"):
            store.update(rows, layer, data[:2])
        with pytest.raises(tiercel.InvalidArgumentError, match="contiguous"):
            store.update(rows, layer, np.zeros((3, 2 * size), dtype=np.uint8)[:, ::2])
        with pytest.raises(tiercel.InvalidArgumentError, match="beyond"):
            store.update([-1], layer, data[:1])
        with pytest.raises(tiercel.UnavailableError, match="open for updates already"):
            tiercel.Store(checkpoint, updates="read-write", state_path=state)
    with tiercel.Store(checkpoint, updates="read-only", state_path=state) as again:
        np.testing.assert_array_equal(again.lookup_rows(rows, layer), data)
        with pytest.raises(tiercel.UnavailableError, match="reading alone"):
            again.update(rows, layer, data)
    with pytest.raises(ValueError, match="updates is 'maybe'; known are 'auto'"):
        tiercel.Store(checkpoint, updates="maybe")

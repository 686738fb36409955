"""What the tests share: a made checkpoint, stores on it, and what its rows must be."""

import sys
import threading

import numpy as np
import pytest

import tiercel

LAYERS = (1, 14)
COLUMNS = 24
ROW_BYTES = 264


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Path of a V4.1 checkpoint of 46,204 rows in two layers. Not to be written to."""
    path = tmp_path_factory.mktemp("made") / "checkpoint"
    tiercel.make_checkpoint(path, shrink=20000, seed=7, tables_only=True)
    return path


@pytest.fixture
def store(checkpoint):
    with tiercel.Store(checkpoint, dram_budget_bytes=48 << 20, staging_bytes=16 << 20) as opened:
        yield opened


@pytest.fixture(scope="session")
def expected(checkpoint):
    """expected(runs, layer, format): the rows of a lookup, from hasher and seed alone."""
    info = tiercel.inspect(checkpoint)
    hasher = tiercel.Hasher(checkpoint / "config.json")

    def rows_of(runs, layer, format="stored"):
        ids, dead = hasher.row_ids(runs, layer, return_dead=True)
        rows = tiercel.synthetic_rows(info, layer, ids.ravel(), format=format)
        rows = rows.reshape(*ids.shape, -1)
        rows[dead] = 0
        return rows

    return rows_of


def random_tokens(seed, count, dtype=np.int32):
    """Half of them from few tokens, so that n-grams repeat as they do in text."""
    random = np.random.default_rng(seed)
    few = random.integers(0, 40, count)
    many = random.integers(0, 90_000, count)
    return np.where(random.integers(0, 2, count) == 0, few, many).astype(dtype)


def runs_beside(call, attempts):
    """Whether another Python thread runs while call() does, in so many calls at most.

    With a switch interval of 1,000 s a thread that waits for the GIL gets it only where
    somebody lets go of it.
    """
    interval = sys.getswitchinterval()
    started = threading.Event()
    gate = threading.Lock()
    gate.acquire()
    ran = []

    def other():
        started.set()
        with gate:
            ran.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    sys.setswitchinterval(1000)
    try:
        gate.release()
        for _ in range(attempts):
            call()
            if ran:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        thread.join()

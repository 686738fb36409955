"""Goal: tickets: their bytes, who keeps what alive, callbacks, cancellation.

Method: bytes are compared with hasher and seed. What must have gone is asked of weak
references, after a collection. Waits are for events; nothing asserts on time.
"""

import gc
import os
import select
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from conftest import COLUMNS, LAYERS, ROW_BYTES, random_tokens, runs_beside
from test_dlpack import Tensor

import tiercel
from tiercel import PrefetchLayer


class Array(np.ndarray):
    """Arrays that can be asked whether they are gone."""


def zeros(count):
    return np.zeros((count, COLUMNS, ROW_BYTES), np.uint8).view(Array)


@pytest.mark.parametrize("format", ["stored", "bf16"])
@pytest.mark.parametrize("urgency", ["deadline", "background"])
@pytest.mark.parametrize("hits", ["start", "deferred"])
def test_staged_rows(store, expected, format, urgency, hits):
    runs = [([1, 2, 3], random_tokens(11, 100)), (None, [5, -1, 6])]
    with store.start(runs, format=format, urgency=urgency, hits=hits) as ticket:
        assert ticket.layers == LAYERS
        for layer in LAYERS:
            ticket.wait(layer)
            assert ticket.try_wait(layer) is True
            assert ticket.wait_for(layer, 0) is True
            rows = ticket.rows(layer)
            assert not rows.flags.writeable
            np.testing.assert_array_equal(rows, expected(runs, layer, format))
            dead = ticket.row_status(layer) == tiercel.RowStatus.DEAD
            assert dead[101].all() and not dead[:100].any()
            stats = ticket.stats(layer)
            assert stats.groups == stats.dram_hits + stats.joined + stats.fetches
            assert stats.groups > 0 and stats.in_place_after_s > 0
        ticket.wait_all()


def test_destinations(store, expected):
    tokens = random_tokens(12, 50)
    wide = np.zeros((50, COLUMNS, 272), np.uint8)
    tensor = np.zeros((50, COLUMNS, ROW_BYTES), np.uint8)
    status = np.full(50 * COLUMNS, 99, np.uint8)
    layers = [
        PrefetchLayer(14, out=wide[:, :, :ROW_BYTES], needed_after_s=0.002, status=status),
        PrefetchLayer(1, out=Tensor(tensor)),
    ]
    ticket = store.start(tokens, layers)
    ticket.wait_all()
    np.testing.assert_array_equal(wide[:, :, :ROW_BYTES], expected(tokens, 14))
    assert not wide[:, :, ROW_BYTES:].any()
    np.testing.assert_array_equal(tensor, expected(tokens, 1))
    assert not status.any()
    # The same memory, whatever the strides are.
    assert ticket.rows(14).ctypes.data == wide.ctypes.data
    np.testing.assert_array_equal(ticket.rows(14), wide[:, :, :ROW_BYTES])
    assert not ticket.row_status(1).any()


def test_rows_by_id(store):
    with store.start_rows([3, 4, 3], 14) as ticket:
        ticket.wait(14)
        np.testing.assert_array_equal(
            ticket.rows(14), tiercel.synthetic_rows(store.checkpoint, 14, [3, 4, 3])
        )


def test_partial_errors_carry_the_outputs(store):
    count = store.checkpoint.layers[0].row_count
    out = np.ones((2, ROW_BYTES), np.uint8)
    for layer in (1, PrefetchLayer(1, out=out)):
        ticket = store.start_rows([3, count], layer)
        for wait in (ticket.wait, ticket.try_wait, lambda layer: ticket.wait_for(layer, 1)):
            with pytest.raises(tiercel.PartialError) as caught:
                ticket.wait(1)
                wait(1)
            assert caught.value.row_status.tolist() == [0, tiercel.RowStatus.OUT_OF_RANGE]
            np.testing.assert_array_equal(
                caught.value.rows[:1], tiercel.synthetic_rows(store.checkpoint, 1, [3])
            )
            assert not caught.value.rows[1].any()
        with pytest.raises(tiercel.PartialError) as caught:
            ticket.wait_all()
        assert caught.value.row_status[1].tolist() == [0, 2]
    assert not out[1].any() and out[0].any()


def test_errors(store):
    ticket = store.start([1, 2])
    with pytest.raises(tiercel.NotFoundError):
        ticket.wait(99)
    with pytest.raises(tiercel.NotFoundError):
        ticket.rows(99)
    with pytest.raises(tiercel.InvalidArgumentError, match="urgency is 'soon'"):
        store.start([1], urgency="soon")
    with pytest.raises(tiercel.InvalidArgumentError, match="staged"):
        store.start([1], PrefetchLayer(1, status=np.zeros(COLUMNS, np.uint8)))
    with pytest.raises(tiercel.InvalidArgumentError):
        store.start([1], [1, 1])
    with pytest.raises(tiercel.ResourceExhaustedError):
        store.start(np.zeros(5000, np.int32))  # Beyond the staging.
    with pytest.raises(TypeError, match="on_later"):
        store.start([1], on_later=print)
    with pytest.raises(TypeError, match="event_fd is 'no'"):
        store.start([1], event_fd="no")
    with pytest.raises(TypeError, match="PrefetchLayers are wanted"):
        store.start([1], [None])
    with pytest.raises(TypeError, match="No constructor"):
        tiercel.Ticket()
    ticket.close()
    ticket.close()
    ticket.cancel()
    assert ticket.closed
    with pytest.raises(tiercel.InvalidArgumentError, match="the ticket is closed"):
        ticket.wait(1)


def test_limits_are_given_back(checkpoint):
    with tiercel.Store(
        checkpoint, dram_budget_bytes=32 << 20, staging_bytes=1 << 20, tickets_max=2
    ) as store:
        for _ in range(5):
            tickets = [store.start([1, 2, 3], 1) for _ in range(2)]
            with pytest.raises(tiercel.ResourceExhaustedError):
                store.start([1], 1)
            # One is closed, the other one dropped.
            tickets[0].close()
            tickets.clear()


def test_the_gil_is_let_go(store):
    seed = iter(range(100, 10_000))

    def wait():
        with store.start(random_tokens(next(seed), 100)) as ticket:
            ticket.wait_all()

    tokens = random_tokens(13, 300)
    assert runs_beside(wait, 3000)
    # Microseconds without the GIL: on a busy machine the other thread often wakes too late.
    assert runs_beside(lambda: store.start(tokens, 1).close(), 100_000)


def test_waits_of_many_threads_beside_cancel(store, expected):
    """A cancelled wait says so; one that was in time has the right rows."""
    for seed in range(20):
        tokens = random_tokens(200 + seed, 200)
        ticket = store.start(tokens, urgency="background")
        begun = threading.Barrier(4)
        outcomes = []

        def wait():
            begun.wait()
            for layer in LAYERS:
                try:
                    ticket.wait(layer)
                    good = (ticket.rows(layer) == expected(tokens, layer)).all()
                    outcomes.append("rows" if good else "wrong rows")
                except tiercel.CancelledError:
                    outcomes.append("cancelled")

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        ticket.cancel()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 6 and set(outcomes) <= {"rows", "cancelled"}
        ticket.close()


def test_a_view_keeps_the_staging(checkpoint, expected):
    tokens = random_tokens(14, 20)
    with tiercel.Store(
        checkpoint, dram_budget_bytes=32 << 20, staging_bytes=1 << 20, tickets_max=1
    ) as store:
        rows = store.start(tokens, 1).rows(1)
        # The ticket has no name any more, and is alive: no other one fits.
        gc.collect()
        with pytest.raises(tiercel.ResourceExhaustedError):
            store.start(tokens, 1)
        part = rows[3:5]
        del rows
        gc.collect()
        with pytest.raises(tiercel.ResourceExhaustedError):
            store.start(tokens, 1)
        del part
        gc.collect()
        with store.start(tokens, 1) as ticket:
            ticket.wait(1)
            rows = ticket.rows(1)
        # Layers in place stay good after the end of the ticket.
        np.testing.assert_array_equal(rows, expected(tokens, 1))


def test_destinations_live_as_long_as_the_ticket(store, expected):
    tokens = random_tokens(15, 30)
    out, status = zeros(30), np.zeros(30 * COLUMNS, np.uint8).view(Array)
    gone = [weakref.ref(out), weakref.ref(status)]
    ticket = store.start(tokens, PrefetchLayer(1, out=out, status=status))
    del out, status
    gc.collect()
    assert all(ref() is not None for ref in gone)
    ticket.wait(1)
    rows = ticket.rows(1)
    del ticket
    gc.collect()
    assert all(ref() is not None for ref in gone)
    np.testing.assert_array_equal(rows, expected(tokens, 1))
    del rows
    gc.collect()
    assert all(ref() is None for ref in gone)


def test_destinations_of_a_refused_ticket_are_let_go(store):
    out = zeros(1)
    gone = weakref.ref(out)
    with pytest.raises(tiercel.InvalidArgumentError):
        store.start([200_000], PrefetchLayer(1, out=out))
    del out
    gc.collect()
    assert gone() is None


def test_a_ticket_outlives_its_store(checkpoint, expected):
    tokens = random_tokens(16, 500)
    outcomes = set()
    for _ in range(10):
        store = tiercel.Store(checkpoint, dram_budget_bytes=32 << 20, staging_bytes=8 << 20)
        ticket = store.start(tokens, 1)
        del store
        gc.collect()
        try:
            ticket.wait(1)
            np.testing.assert_array_equal(ticket.rows(1), expected(tokens, 1))
            outcomes.add("rows")
        except tiercel.CancelledError:
            outcomes.add("cancelled")
        rows = ticket.rows(1)
        del ticket
        gc.collect()
        assert rows.nbytes and rows.tobytes()
    assert outcomes <= {"rows", "cancelled"}


def test_on_layer(store):
    called = []
    done = threading.Event()

    def on_layer(layer, code):
        called.append((layer, code, threading.get_ident()))
        # The store may be called, and the ticket be dropped, from here.
        store.lookup([1], layer)
        if len(called) == 2:
            held.clear()
            done.set()

    held = [store.start(random_tokens(17, 100), on_layer=on_layer)]
    done.wait()
    assert sorted(layer for layer, _, _ in called) == list(LAYERS)
    assert {code for _, code, _ in called} == {"OK"}
    assert threading.get_ident() not in {thread for _, _, thread in called}


def test_on_layer_is_not_called_after_the_end(store):
    """cancel(), close() and dropping all end the callbacks."""
    for seed, end in enumerate(["cancel", "close", "drop"] * 20):
        ended = []
        late = []
        ticket = store.start(
            random_tokens(300 + seed, 50), on_layer=lambda *_: late.append(1) if ended else None
        )
        # With the GIL from here on, but where end() itself lets go of it.
        if end == "drop":
            del ticket
        else:
            getattr(ticket, end)()
        ended.append(True)
        flushed = threading.Event()
        with store.start([1], 1, on_layer=lambda *_: flushed.set()) as last:
            last.wait(1)
            flushed.wait()
        assert not late, end


def test_on_layer_that_raises_is_reported(store, monkeypatch):
    reported = []
    seen = threading.Event()

    def hook(unraisable):
        reported.append(unraisable.exc_type)
        seen.set()

    monkeypatch.setattr(sys, "unraisablehook", hook)
    with store.start([1], 1, on_layer=lambda layer, code: 1 / 0) as ticket:
        ticket.wait(1)
        seen.wait()
    assert reported == [ZeroDivisionError]


def test_a_cycle_through_on_layer_is_collected(store):
    class Owner:
        def on_layer(self, layer, code):
            pass

    owner = Owner()
    owner.ticket = store.start([1, 2], on_layer=owner.on_layer)
    owner.ticket.wait_all()
    gone = weakref.ref(owner)
    # A call that is under way holds its callable: let the next ticket's call come after it.
    flushed = threading.Event()
    with store.start([1], 1, on_layer=lambda *_: flushed.set()):
        flushed.wait()
    del owner
    gc.collect()
    assert gone() is None


def test_event_fd(store):
    event = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        with store.start(random_tokens(18, 50), event_fd=event) as ticket:
            count = 0
            while count < len(LAYERS):
                select.select([event], [], [])
                count += os.eventfd_read(event)
            assert all(ticket.try_wait(layer) for layer in LAYERS)
        assert count == len(LAYERS)
    finally:
        os.close(event)


def test_an_exit_with_everything_open(checkpoint):
    script = (
        "import sys, tiercel, numpy as np\n"
        "store = tiercel.Store(sys.argv[1], dram_budget_bytes=32 << 20, staging_bytes=8 << 20,\n"
        "                      log=print)\n"
        "tickets = [store.start(np.arange(20) + i, on_layer=print) for i in range(10)]\n"
        "rows = tickets[3].rows(1)\n"
        "print('end')\n"
    )
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", script, str(checkpoint)], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "end\n" in done.stdout


def test_many_threads(store, expected):
    wanted = {seed: expected(random_tokens(seed, 60), 14) for seed in range(8)}
    wrong = []

    def work(seed):
        tokens = random_tokens(seed, 60)
        for _ in range(20):
            with store.start(tokens, 14, when_full="block") as ticket:
                ticket.promote()
                ticket.wait(14)
                if not (ticket.rows(14) == wanted[seed]).all():
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

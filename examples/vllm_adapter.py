#!/usr/bin/env python3
"""Engram rows for an engine such as vLLM: prefetched from the scheduler's history.

EngramAdapter is what goes into a model runner; main() drives it with a stand-in engine
(chunked prefill, decode, speculative tokens that are rolled back), checks every row that
a "layer" sees, and needs neither vLLM nor a GPU.

    PYTHONPATH=build/release/python python examples/vllm_adapter.py

Where it hooks in (names of vLLM's V1 model runner):

  queue_prompt()   when a request is added and still waits: its rows are read with what
                   the others leave of the disk.
  begin_step()     in execute_model(), as soon as the batch is known. The ids come from
                   input_batch.token_ids_cpu, which the host has anyway: ids that are
                   fetched from the device would drain the stream. With asynchronous
                   scheduling the last ids are not on the host yet (-1): then this must
                   wait for them, and says so instead of hashing them.
  before_layer()   in the forward of the layer with the table, on the host: in eager mode
                   and between the pieces of a piecewise CUDA graph (a splitting op).
  before_replay()  before a FULL CUDA graph is replayed: no Python runs inside one, so all
                   rows must be in place first.
  end_step()       when the step's kernels have read the buffers (an event of the stream).

Rules that CUDA graphs set, and how they are kept: every layer has one buffer at one
address, made once, that rows are written to; its size is that of the largest batch, and a
batch that is padded to a captured size finds zeros in the rest. Give pinned memory
(torch.zeros(..., pin_memory=True)): kernels may read it in place, or `on_rows` may copy
it to a static device buffer on the stream.

No Python thread is used: the reads go on in the store's own threads, without the GIL,
between begin_step() and the wait.
"""

import collections
import sys
import tempfile

import numpy as np

import tiercel

try:
    import torch
except ImportError:
    torch = None


# A request's share of a step: token_ids is all of its ids, of which `computed` are behind
# it and `scheduled` are to be computed now; speculative ones are among those.
Scheduled = collections.namedtuple("Scheduled", "request_id token_ids computed scheduled")


def make_host_buffer(shape):
    """Zeros at a fixed address: a torch tensor (pinned if there is a GPU), else NumPy."""
    if torch is None:
        return np.zeros(shape, np.uint8)
    return torch.zeros(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available())


class EngramAdapter:
    """Rows of each step's tokens, in one static buffer a layer.

    store         a tiercel.Store; its token_map turns the tokenizer's ids into classes.
    tokens_max    tokens of the largest batch (max_num_batched_tokens).
    make_buffer   makes a zeroed uint8 [tokens_max, columns, row bytes] buffer.
    needed_after  layer id -> seconds from begin_step() until the layer wants its rows;
                  it orders the reads of several batches.
    on_rows       called by the waits as on_rows(layer, buffer, token_count): the place for
                  a copy to the device.
    """

    def __init__(self, store, tokens_max, make_buffer=make_host_buffer, needed_after=None,
                 on_rows=None):
        self._store = store
        self._on_rows = on_rows
        recipe = store.checkpoint.recipe
        self._history = recipe.order_max - 1
        self._columns = recipe.column_count
        self._tokens_max = tokens_max
        self._needed_after = dict(needed_after or {})
        self.buffers = {
            layer: make_buffer((tokens_max, recipe.column_count, store.row_size_bytes(layer)))
            for layer in store.layers
        }
        self._status = np.zeros((len(self.buffers), tokens_max, self._columns), np.uint8)
        self._dirty = dict.fromkeys(self.buffers, 0)  # Tokens of the last batch.
        self._ticket = None
        self._waiting = set()
        self._prompts = {}

    def queue_prompt(self, request_id, token_ids):
        """Begins to read a waiting prompt's rows into the DRAM cache, in the background."""
        try:
            self._prompts[request_id] = self._store.start(token_ids, urgency="background")
        except tiercel.ResourceExhaustedError:
            pass  # Too many wait already; begin_step() reads the rows all the same.

    def begin_step(self, batch):
        """Starts the rows of a batch: a list of Scheduled, in the order of its tokens."""
        if self._ticket is not None:
            raise RuntimeError("begin_step() before end_step() of the step before")
        runs = [self._run_of(request) for request in batch]
        count = sum(len(run.tokens) for run in runs)
        if count > self._tokens_max:
            raise ValueError(f"{count} tokens are scheduled; the buffers hold {self._tokens_max}")
        layers = []
        for i, (layer, buffer) in enumerate(self.buffers.items()):
            if count < self._dirty[layer]:
                buffer[count : self._dirty[layer]] = 0  # Padding of a captured size reads this.
            self._dirty[layer] = count
            layers.append(
                tiercel.PrefetchLayer(
                    layer,
                    out=buffer[:count],
                    status=self._status[i, :count],
                    needed_after_s=self._needed_after.get(layer, 0.0),
                )
            )
        self._ticket = self._store.start(runs, layers)
        self._waiting = set(self.buffers)
        self._count = count
        for request in batch:
            # The batch has taken over what its prompt's ticket had begun.
            self._prompts.pop(request.request_id, None)

    def before_layer(self, layer):
        """Returns when the layer's rows are in its buffer. Its first call in a step counts.

        Raises tiercel.PartialError where rows could not be read: those are zero.
        """
        if layer not in self._waiting:
            return
        self._waiting.remove(layer)
        self._ticket.wait(layer)
        if self._on_rows is not None:
            self._on_rows(layer, self.buffers[layer], self._count)

    def before_replay(self):
        """before_layer() for all layers: before a FULL CUDA graph."""
        for layer in self.buffers:
            self.before_layer(layer)

    def end_step(self):
        """Ends the step, finished or not: nothing writes to the buffers afterwards."""
        if self._ticket is not None:
            self._ticket.close()
            self._ticket = None

    def drop_request(self, request_id):
        """An aborted request: reads that only it waits for are not made."""
        ticket = self._prompts.pop(request_id, None)
        if ticket is not None:
            ticket.close()

    def _run_of(self, request):
        begin, end = request.computed, request.computed + request.scheduled
        tokens = request.token_ids[begin:end]
        if len(tokens) != request.scheduled or (np.asarray(tokens) < 0).any():
            # A placeholder hashed as a token would serve wrong rows without a word.
            raise ValueError(f"request {request.request_id}: ids {begin} to {end} are not all "
                             "on the host yet")
        return tiercel.TokenRun(request.token_ids[max(begin - self._history, 0) : begin], tokens)


class StandInEngine:
    """Just enough of an engine: requests, steps, and layers that check their rows."""

    def __init__(self, store, adapter, seed):
        self._adapter = adapter
        self._hasher = store.hasher
        self._info = store.checkpoint
        self._random = np.random.default_rng(seed)
        self.rows_checked = 0
        self.rows_different = 0

    def step(self, batch, full_graph):
        self._adapter.begin_step(batch)
        # What an engine does meanwhile: attention metadata, the layers before the first table.
        if full_graph:
            self._adapter.before_replay()
        for layer in self._adapter.buffers:
            self._adapter.before_layer(layer)
            self._layer_forward(layer, batch)
        self._adapter.end_step()

    def _layer_forward(self, layer, batch):
        """In place of the layer's kernels: compares the buffer with what it must hold."""
        buffer = np.asarray(self._adapter.buffers[layer])
        at = 0
        for request in batch:
            # From the whole sequence: the adapter's choice of history is part of the test.
            end = request.computed + request.scheduled
            ids = self._hasher.row_ids(request.token_ids[:end], layer)[request.computed :]
            wanted = tiercel.synthetic_rows(self._info, layer, ids.ravel())
            found = buffer[at : at + request.scheduled].reshape(wanted.shape)
            self.rows_different += int((found != wanted).any(axis=1).sum())
            self.rows_checked += len(wanted)
            at += request.scheduled
        self.rows_different += int(buffer[at:].any(axis=(1, 2)).sum())

    def random_ids(self, count):
        return self._random.integers(0, 500, count).astype(np.int32)

    def serve(self, prompts, chunk=48, decode_steps=12):
        """Chunked prefill of each prompt, then decode of all with two speculative tokens."""
        sequences = {}
        for name, prompt in prompts.items():
            self._adapter.queue_prompt(name, prompt)
        for name, prompt in prompts.items():
            sequences[name] = prompt
            for begin in range(0, len(prompt), chunk):
                count = min(chunk, len(prompt) - begin)
                self.step([Scheduled(name, prompt, begin, count)], full_graph=False)
        for step in range(decode_steps):
            batch = []
            for name, ids in sequences.items():
                # The token that was sampled last and two drafts, one of which is taken: the
                # other is rolled back, which the store need not be told.
                drafted = np.concatenate([ids, self.random_ids(3)])
                batch.append(Scheduled(name, drafted, len(ids), 3))
                sequences[name] = drafted[:-1]
            self.step(batch, full_graph=step % 2 == 0)


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/checkpoint"
        tiercel.make_checkpoint(path, shrink=20000, tables_only=True)
        with tiercel.Store(path, dram_budget_bytes=64 << 20, staging_bytes=24 << 20) as store:
            adapter = EngramAdapter(store, tokens_max=64, needed_after={1: 3e-4, 14: 2.3e-3})
            engine = StandInEngine(store, adapter, seed=1)
            engine.serve({name: engine.random_ids(150 + 40 * name) for name in range(4)})
            hits = sum(order.dram_hits for order in store.stats().orders)
            groups = sum(order.groups for order in store.stats().orders)
    print(f"{engine.rows_checked} rows checked, {engine.rows_different} differ; "
          f"{hits} of {groups} groups came from DRAM; "
          f"buffers of {'NumPy' if torch is None else 'torch'}")
    return 0 if engine.rows_checked > 0 and engine.rows_different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the library tells about itself: plain frozen dataclasses.

The extension makes them by field name, so their fields are those of the C++ structs in
include/tiercel/, which say more about each.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Optional, Tuple


class RowStatus(IntEnum):
    """What became of one row. Whatever is not OK has zero bytes in the output."""

    OK = 0
    DEAD = 1
    OUT_OF_RANGE = 2
    IO_ERROR = 3
    CORRUPTION = 4


class TokenRun(NamedTuple):
    """Consecutive tokens of one sequence, and the ids right before them, oldest first.

    Give at least order_max - 1 ids of history; fewer mean that the sequence starts there.
    Any (history, tokens) tuple will do in its place.
    """

    history: Any
    tokens: Any


@dataclass(frozen=True)
class PrefetchLayer:
    """One layer of Store.start(): where its rows go and when they are needed.

    layer           block index of the table.
    out             writable destination (see docs/python.md); None: the store's staging.
    status          writable destination of a RowStatus byte a row; None: made if needed.
    needed_after_s  how long after start() the rows are needed, in seconds.
    """

    layer: int
    out: Any = None
    status: Any = None
    needed_after_s: float = 0.0


@dataclass(frozen=True)
class LayerRecipe:
    layer_id: int
    multipliers: Tuple[int, ...]
    head_sizes: Tuple[int, ...]
    offsets: Tuple[int, ...]
    row_count: int


@dataclass(frozen=True)
class Recipe:
    kind: str
    order_max: int
    head_count: int
    head_dim: int
    column_count: int
    vocab_size: int
    compressed_vocab_size: int
    pad_token: int
    eos_token: int
    layers: Tuple[LayerRecipe, ...]


@dataclass(frozen=True)
class TableFile:
    path: str
    size_bytes: int


@dataclass(frozen=True)
class LayerTable:
    layer_id: int
    row_format: str
    value_count: int
    tensor_scale: float
    row_size_bytes: int
    row_count: int
    part_sizes_bytes: Tuple[int, ...]


@dataclass(frozen=True)
class CheckpointInfo:
    path: str
    layout: str
    recipe: Recipe
    files: Tuple[TableFile, ...]
    layers: Tuple[LayerTable, ...]
    table_bytes: int
    synthetic_seed: Optional[int]


@dataclass(frozen=True)
class OrderStats:
    layer_id: int
    order: int
    groups: int
    dram_hits: int
    joined: int
    fetches: int
    failed_groups: int
    cache_insertions: int
    cache_evictions: int
    cache_rejections: int
    cache_ghost_hits: int
    cache_resident_groups: int
    cache_pinned_groups: int
    group_size_bytes: int
    dram_hit_bytes: int
    fetched_bytes: int


@dataclass(frozen=True)
class StoreStats:
    orders: Tuple[OrderStats, ...]
    single_rows: int
    device_reads: int
    device_reads_shared: int
    device_read_bytes: int
    device_read_retries: int
    device_read_failures: int
    device_read_p50_ns: int
    device_read_p99_ns: int
    device_read_max_ns: int
    dram_budget_bytes: int
    cache_bytes: int
    resident_scale_bytes: int
    read_buffer_bytes: int
    ticket_bytes: int
    tickets: int
    io_thread_count: int
    engine: str
    engine_description: str
    engine_fallback: str
    queue_depth: int
    read_block_bytes: int
    disk_profile: str
    cache_description: str


@dataclass(frozen=True)
class TicketStats:
    groups: int
    dram_hits: int
    joined: int
    fetches: int
    in_place_after_s: float


@dataclass(frozen=True)
class HotSetSaved:
    group_count: int
    file_bytes: int
    elapsed_ns: int


@dataclass(frozen=True)
class HotSetProgress:
    state: str
    group_count: int
    groups_loaded: int
    groups_present: int
    groups_left_out: int
    groups_damaged: int
    blocks_damaged: int
    groups_pinned: int
    read_bytes: int
    total_bytes: int
    elapsed_ns: int
    message: str


@dataclass(frozen=True)
class MakeCheckpointReport:
    file_count: int
    bytes_written: int
    row_count: int
    direct_io: bool


@dataclass(frozen=True)
class VerifyReport:
    rows_checked: int
    rows_different: int
    rows_unreadable: int
    findings: Tuple[str, ...]

from collections.abc import Buffer  # type: ignore[attr-defined]  # Python 3.12
from os import PathLike
from types import TracebackType
from typing import Any, Callable, Literal, Mapping, Optional, Protocol, Sequence, Union, overload

import numpy as np
from numpy.typing import NDArray

from tiercel._errors import AlreadyExistsError as AlreadyExistsError
from tiercel._errors import CancelledError as CancelledError
from tiercel._errors import CorruptionError as CorruptionError
from tiercel._errors import Error as Error
from tiercel._errors import InvalidArgumentError as InvalidArgumentError
from tiercel._errors import IoError as IoError
from tiercel._errors import NotFoundError as NotFoundError
from tiercel._errors import PartialError as PartialError
from tiercel._errors import PermissionDeniedError as PermissionDeniedError
from tiercel._errors import ResourceExhaustedError as ResourceExhaustedError
from tiercel._errors import UnavailableError as UnavailableError
from tiercel._results import CheckpointInfo as CheckpointInfo
from tiercel._results import HotSetProgress as HotSetProgress
from tiercel._results import HotSetSaved as HotSetSaved
from tiercel._results import LayerRecipe as LayerRecipe
from tiercel._results import LayerTable as LayerTable
from tiercel._results import MakeCheckpointReport as MakeCheckpointReport
from tiercel._results import OrderStats as OrderStats
from tiercel._results import PrefetchLayer as PrefetchLayer
from tiercel._results import Recipe as Recipe
from tiercel._results import RowStatus as RowStatus
from tiercel._results import StoreStats as StoreStats
from tiercel._results import TableFile as TableFile
from tiercel._results import TicketStats as TicketStats
from tiercel._results import TokenRun as TokenRun
from tiercel._results import VerifyReport as VerifyReport

__version__: str
DEAD_TOKEN: int

class DlpackTensor(Protocol):
    """Exists for type checkers alone: a tensor of PyTorch, JAX, CuPy, ..."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

Path = Union[str, PathLike[str]]
HostArray = Union[NDArray[Any], Buffer, DlpackTensor]
Tokens = Union[HostArray, Sequence[int]]
Runs = Union[Tokens, Sequence[tuple[Optional[Tokens], Tokens]]]
Rows = Union[HostArray, Sequence[int]]
Format = Literal["stored", "bf16"]
OnPartial = Literal["raise", "return"]
Progress = Callable[[int, int], Optional[bool]]

class TokenMap:
    @staticmethod
    def load(path: Path) -> TokenMap: ...
    @staticmethod
    def from_tokenizer_json(json: bytes, source_name: str = ...) -> TokenMap: ...
    @staticmethod
    def from_classes(classes: Rows) -> TokenMap: ...
    def save(self, path: Path) -> None: ...
    def __len__(self) -> int: ...
    @property
    def class_count(self) -> int: ...
    @property
    def classes(self) -> NDArray[np.uint32]: ...

class Hasher:
    def __init__(
        self,
        config_path: Path,
        token_map: Optional[TokenMap] = None,
        compressed_vocab_size: Optional[int] = None,
    ) -> None: ...
    @property
    def recipe(self) -> Recipe: ...
    @overload
    def row_ids(
        self, runs: Runs, layer: int, history: Optional[Tokens] = None, *,
        return_dead: Literal[False] = False,
    ) -> NDArray[np.uint64]: ...
    @overload
    def row_ids(
        self, runs: Runs, layer: int, history: Optional[Tokens] = None, *,
        return_dead: Literal[True],
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]: ...
    @overload
    def mixes(
        self, runs: Runs, layer: int, history: Optional[Tokens] = None, *,
        return_dead: Literal[False] = False,
    ) -> NDArray[np.uint64]: ...
    @overload
    def mixes(
        self, runs: Runs, layer: int, history: Optional[Tokens] = None, *,
        return_dead: Literal[True],
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]: ...

class Ticket:
    def wait(self, layer: int) -> None: ...
    def wait_all(self) -> None: ...
    def wait_for(self, layer: int, seconds: float) -> bool: ...
    def try_wait(self, layer: int) -> bool: ...
    def promote(self) -> None: ...
    def cancel(self) -> None: ...
    def rows(self, layer: int) -> NDArray[Any]: ...
    def row_status(self, layer: int) -> NDArray[np.uint8]: ...
    def stats(self, layer: int) -> TicketStats: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> Ticket: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None: ...

class SharedCache:
    def __init__(self, descriptor: int, path: Path, *, shard: tuple[int, int] = (0, 1)) -> None: ...
    def lookup(
        self, mixes: HostArray, layer: int, *, out: Any = None, hits: Any = None
    ) -> tuple[Any, Any]: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def has_updates(self) -> bool: ...
    @property
    def writer_closed(self) -> bool: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> SharedCache: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None: ...

class Store:
    def __init__(
        self,
        path: Path,
        *,
        dram_budget_bytes: int = ...,
        engine: Literal["auto", "io_uring", "pread"] = "auto",
        io_thread_count: int = 0,
        queue_depth: int = 0,
        read_block_bytes: int = 0,
        disk_profile_path: Optional[Path] = None,
        read_attempts_max: int = 3,
        io_poll: bool = False,
        submission_poll: bool = False,
        scales: Literal["auto", "resident", "disk"] = "auto",
        pages: Literal["transparent-huge", "hugetlb", "plain"] = "transparent-huge",
        numa: Literal["interleave", "none", "node"] = "interleave",
        numa_node: int = 0,
        shared_cache: bool = False,
        token_map: Optional[TokenMap] = None,
        layers: Optional[Sequence[int]] = None,
        shard: tuple[int, int] = (0, 1),
        tickets_max: int = ...,
        prefetch_tokens_max: int = ...,
        staging_bytes: int = 0,
        start_groups_max: int = ...,
        background_depth: int = 0,
        expected_groups_max: Optional[int] = None,
        updates: Literal["auto", "off", "read-only", "read-write"] = "auto",
        state_path: Optional[Path] = None,
        overlay_rows_max: int = 0,
        log: Optional[Callable[[str], Any]] = None,
    ) -> None: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> Store: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None: ...
    def lookup(
        self, runs: Runs, layer: int, history: Optional[Tokens] = None, *, out: Any = None,
        status: Any = None, format: Format = "stored", on_partial: OnPartial = "raise",
    ) -> Any: ...
    def lookup_layers(
        self, runs: Runs, layers: Optional[Sequence[int]] = None,
        history: Optional[Tokens] = None, *, out: Optional[Mapping[int, Any]] = None,
        status: Optional[Mapping[int, Any]] = None, format: Format = "stored",
        on_partial: OnPartial = "raise",
    ) -> dict[int, Any]: ...
    def lookup_rows(
        self, rows: Rows, layer: int, *, out: Any = None, status: Any = None,
        format: Format = "stored", on_partial: OnPartial = "raise",
    ) -> Any: ...
    def update(self, rows: Rows, layer: int, data: Any) -> None: ...
    def start(
        self,
        runs: Runs,
        layers: Union[None, int, PrefetchLayer, Sequence[Union[int, PrefetchLayer]]] = None,
        history: Optional[Tokens] = None,
        *,
        format: Format = "stored",
        urgency: Literal["deadline", "background"] = "deadline",
        hits: Literal["start", "deferred"] = "start",
        when_full: Literal["refuse", "block"] = "refuse",
        cache: Literal["insert", "keep_out"] = "insert",
        on_layer: Optional[Callable[[int, str], Any]] = None,
        event_fd: Optional[int] = None,
    ) -> Ticket: ...
    def start_rows(
        self,
        rows: Rows,
        layer: Union[int, PrefetchLayer],
        *,
        format: Format = "stored",
        urgency: Literal["deadline", "background"] = "deadline",
        hits: Literal["start", "deferred"] = "start",
        when_full: Literal["refuse", "block"] = "refuse",
        cache: Literal["insert", "keep_out"] = "insert",
        on_layer: Optional[Callable[[int, str], Any]] = None,
        event_fd: Optional[int] = None,
    ) -> Ticket: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def checkpoint(self) -> CheckpointInfo: ...
    @property
    def hasher(self) -> Hasher: ...
    def row_size_bytes(self, layer: int, format: Format = "stored") -> int: ...
    def share_cache(self) -> int: ...
    def touch(self, mixes: HostArray, layer: int) -> int: ...
    def stats(self) -> StoreStats: ...
    def metrics(self) -> str: ...
    def save_hot_set(
        self, path: Path, *, bytes: bool = True, group_count_max: Optional[int] = None,
        block_bytes: int = ...,
    ) -> HotSetSaved: ...
    def load_hot_set(self, path: Path, *, bytes: bool = True, pin_share: float = 0.0) -> None: ...
    def hot_set(self) -> HotSetProgress: ...
    def wait_for_hot_set(self) -> None: ...
    def cancel_hot_set(self) -> None: ...

def inspect(path: Path) -> CheckpointInfo: ...
def make_checkpoint(
    path: Path,
    *,
    like: Literal["deepseek-v4.1-flash", "qwen3.8-flash-next", "engram-demo"] = ...,
    shrink: int = 1,
    seed: int = 1,
    fp8: bool = False,
    tables_only: bool = False,
    progress: Optional[Progress] = None,
) -> MakeCheckpointReport: ...
def verify_synthetic(path: Path, *, progress: Optional[Progress] = None) -> VerifyReport: ...
def synthetic_rows(
    checkpoint: CheckpointInfo, layer: int, rows: Rows, *, format: Format = "stored"
) -> NDArray[Any]: ...

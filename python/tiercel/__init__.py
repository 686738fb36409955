"""Tiercel: the tiered store for Engram tables. docs/python.md is the guide."""

from tiercel._errors import (
    AlreadyExistsError,
    CancelledError,
    CorruptionError,
    Error,
    InvalidArgumentError,
    IoError,
    NotFoundError,
    PartialError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from tiercel._results import (
    CheckpointInfo,
    HotSetProgress,
    HotSetSaved,
    LayerRecipe,
    LayerTable,
    MakeCheckpointReport,
    OrderStats,
    PrefetchLayer,
    Recipe,
    RowStatus,
    StoreStats,
    TableFile,
    TicketStats,
    TokenRun,
    VerifyReport,
)
from tiercel._tiercel import (
    Hasher,
    SharedCache,
    Store,
    Ticket,
    TokenMap,
    __version__,
    inspect,
    make_checkpoint,
    synthetic_rows,
    verify_synthetic,
)

DEAD_TOKEN = -1
"""A token that takes part in no n-gram: an image patch, padding."""

for _public in (Hasher, SharedCache, Store, Ticket, TokenMap):
    _public.__module__ = "tiercel"
del _public

__all__ = [name for name in dir() if not name.startswith("_")]

"""The exceptions of tiercel: one class for each status code of the library."""


class Error(Exception):
    """What the library could not do. str() is its own message.

    code      the library's name of the kind of failure, such as "NOT_FOUND".
    os_error  the errno of the kernel behind it, or 0.
    """

    code = "ERROR"

    def __init__(self, message, os_error=0):
        super().__init__(message)
        self.os_error = os_error


class InvalidArgumentError(Error, ValueError):
    """An argument breaks a documented rule, or an input file is malformed."""

    code = "INVALID_ARGUMENT"


class NotFoundError(Error, LookupError):
    """There is no file, tensor, layer or device of that name."""

    code = "NOT_FOUND"


class AlreadyExistsError(Error):
    """The output is there already; nothing was overwritten."""

    code = "ALREADY_EXISTS"


class PermissionDeniedError(Error):
    """The operating system refused access."""

    code = "PERMISSION_DENIED"


class ResourceExhaustedError(Error):
    """Out of memory, tickets, staging, file descriptors or disk."""

    code = "RESOURCE_EXHAUSTED"


class IoError(Error):
    """The kernel or a device reported a failure."""

    code = "IO_ERROR"


class CorruptionError(Error):
    """A checksum or an on-disk invariant did not hold."""

    code = "CORRUPTION"


class UnavailableError(Error):
    """There is no such thing here (io_uring, say); a fallback may exist."""

    code = "UNAVAILABLE"


class CancelledError(Error):
    """Somebody asked to stop."""

    code = "CANCELLED"


class PartialError(Error):
    """A batch finished, some of its rows did not: those are zero, all others are good.

    rows        the output of the call, complete: an array, or what was given as `out`;
                of a call over several layers a dict of them by layer id.
    row_status  uint8 array of one RowStatus a row, or a dict of them by layer id.
    """

    code = "PARTIAL"

    def __init__(self, message, os_error=0, rows=None, row_status=None):
        super().__init__(message, os_error)
        self.rows = rows
        self.row_status = row_status


_CLASSES = {
    cls.code: cls
    for cls in (
        InvalidArgumentError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        IoError,
        CorruptionError,
        UnavailableError,
        CancelledError,
        PartialError,
    )
}


def make(code, message, os_error, **more):
    """The exception of a status. Called by the extension."""
    return _CLASSES[code](message, os_error, **more)

"""Every failure of pymilvus and gRPC as one of ours: the one boundary.

Three answers, none of which is an empty result:

- `IndexUnavailable`: Milvus is away, busy, loading, or its collection is gone. Wait and ask again.
- `NotPermitted`, `SettingError`: only a person can help.
- `StageStopped`: Milvus or pymilvus calls the request malformed. That is a bug, here or in a server
  this release does not know; asking again for ever would hide it, so the stage ends and says so.

What is not listed counts as unavailable; `tests/contract/test_index_failures.py` walks the libraries'
exceptions and codes, so that a new one fails the build instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from grpc import StatusCode
from pymilvus import exceptions as milvus

from stream.errors import DejaviewError, IndexUnavailable, NotPermitted, SettingError, StageStopped
from stream.uris import without_user_info

# None: the class says nothing, the code and the cause do.
BY_CLASS: dict[type[milvus.MilvusException], type[DejaviewError] | None] = {
    milvus.MilvusException: None,
    milvus.DescribeCollectionException: None,
    milvus.ConnectError: None,
    milvus.MilvusUnavailableException: IndexUnavailable,
    milvus.CollectionNotExistException: IndexUnavailable,
    milvus.IndexNotExistException: IndexUnavailable,
    milvus.ConnectionNotExistException: IndexUnavailable,
    milvus.SchemaMismatchRetryableException: IndexUnavailable,
    milvus.SchemaNotReadyException: IndexUnavailable,
    milvus.ConnectionConfigException: SettingError,
    milvus.ServerVersionIncompatibleException: StageStopped,
    milvus.ParamError: StageStopped,
    milvus.PartitionAlreadyExistException: StageStopped,
    milvus.AmbiguousIndexName: StageStopped,
    milvus.CannotInferSchemaException: StageStopped,
    milvus.DataTypeNotMatchException: StageStopped,
    milvus.DataTypeNotSupportException: StageStopped,
    milvus.DataNotMatchException: StageStopped,
    milvus.PrimaryKeyException: StageStopped,
    milvus.PartitionKeyException: StageStopped,
    milvus.ClusteringKeyException: StageStopped,
    milvus.FieldsTypeException: StageStopped,
    milvus.FunctionsTypeException: StageStopped,
    milvus.FieldTypeException: StageStopped,
    milvus.AutoIDException: StageStopped,
    milvus.InvalidConsistencyLevel: StageStopped,
}

BY_STATUS: dict[StatusCode, type[DejaviewError]] = {
    StatusCode.OK: IndexUnavailable,
    StatusCode.CANCELLED: IndexUnavailable,
    StatusCode.UNKNOWN: IndexUnavailable,
    StatusCode.DEADLINE_EXCEEDED: IndexUnavailable,
    StatusCode.NOT_FOUND: IndexUnavailable,
    StatusCode.RESOURCE_EXHAUSTED: IndexUnavailable,
    StatusCode.FAILED_PRECONDITION: IndexUnavailable,
    StatusCode.ABORTED: IndexUnavailable,
    StatusCode.INTERNAL: IndexUnavailable,
    StatusCode.UNAVAILABLE: IndexUnavailable,
    StatusCode.DATA_LOSS: IndexUnavailable,
    StatusCode.PERMISSION_DENIED: NotPermitted,
    StatusCode.UNAUTHENTICATED: NotPermitted,
    StatusCode.INVALID_ARGUMENT: StageStopped,
    StatusCode.ALREADY_EXISTS: StageStopped,
    StatusCode.OUT_OF_RANGE: StageStopped,
    StatusCode.UNIMPLEMENTED: StageStopped,
}

# The codes of pymilvus, and those of the server (its `merr` package) that are not "away".
BY_CODE: dict[int, type[DejaviewError]] = {
    milvus.ErrorCode.SUCCESS: IndexUnavailable,
    milvus.ErrorCode.UNEXPECTED_ERROR: IndexUnavailable,
    milvus.ErrorCode.RATE_LIMIT: IndexUnavailable,
    milvus.ErrorCode.FORCE_DENY: IndexUnavailable,
    milvus.ErrorCode.COLLECTION_NOT_FOUND: IndexUnavailable,
    milvus.ErrorCode.INDEX_NOT_FOUND: IndexUnavailable,
    1100: StageStopped,  # parameter invalid
    1101: StageStopped,  # parameter missing
    1102: StageStopped,  # parameter too large
    1400: NotPermitted,  # not authenticated
    1401: NotPermitted,  # not permitted
    1800: NotPermitted,  # credentials needed
}

# pymilvus wraps what its own code trips over; these causes are a bug, whoever's.
_BUGS = (TypeError, ValueError, LookupError, AttributeError, AssertionError)
_HINTS: dict[type[DejaviewError], str] = {
    IndexUnavailable: "",
    NotPermitted: "; check index.token or index.token_file, and this user's privileges (SECURITY.md lists them)",
    SettingError: "; check index.uri (a .db file is opened by one process at a time)",
    StageStopped: "; the request is malformed or the server unknown: this is a bug, please report it",
}
# How gRPC says that one side speaks TLS and the other does not, or trusts somebody else.
_TLS = re.compile(r"failed to connect.*(?:SSL|Tls|handshaker|ALPN|Socket closed)")
_TLS_HINT = "; if this lasts, check index.server_pem, and whether index.uri should begin with https:// or http://"
_TEXT_CHARS_MAX = 300
FAILURES = (milvus.MilvusException, grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError, OSError)


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Around every call to Milvus. `what` opens the message: what was asked, and where."""
    try:
        yield
    except FAILURES as failure:
        raise translate(failure, what) from failure


def translate(failure: BaseException, what: str) -> DejaviewError:
    """The error of ours that a failure of theirs means."""
    meaning = _meaning(failure)
    # pymilvus calls every failure to connect "illegal connection params or server unavailable"; gRPC knows which.
    told_by = failure.__cause__ if isinstance(failure.__cause__, grpc.RpcError) else failure
    text = without_user_info(" ".join(_text(told_by).split()))[:_TEXT_CHARS_MAX]
    hint = _TLS_HINT if meaning is IndexUnavailable and _TLS.search(text) else _HINTS[meaning]
    return meaning(f"{what}: {text}{hint}")


def _meaning(failure: BaseException) -> type[DejaviewError]:
    if isinstance(failure, grpc.RpcError):
        return BY_STATUS.get(_status(failure), IndexUnavailable)
    if not isinstance(failure, milvus.MilvusException):
        return IndexUnavailable
    return BY_CLASS.get(type(failure)) or _meaning_of_code(failure)


def _meaning_of_code(failure: milvus.MilvusException) -> type[DejaviewError]:
    cause = failure.__cause__
    if isinstance(cause, grpc.RpcError):
        return BY_STATUS.get(_status(cause), IndexUnavailable)
    if isinstance(cause, _BUGS) and "closed channel" not in str(cause):
        return StageStopped
    # After its retries pymilvus puts a gRPC status where its own code belongs.
    if isinstance(failure.code, StatusCode):
        return BY_STATUS.get(failure.code, IndexUnavailable)
    return BY_CODE.get(failure.code, IndexUnavailable)


def _status(failure: grpc.RpcError) -> StatusCode:
    code = getattr(failure, "code", None)
    return code() if callable(code) else StatusCode.UNKNOWN


def _text(failure: BaseException) -> str:
    if isinstance(failure, grpc.RpcError):
        details = getattr(failure, "details", None)
        return f"{_status(failure).name} {details() if callable(details) else failure}"
    if isinstance(failure, milvus.MilvusException):
        return f"{type(failure).__name__} {failure.code}: {failure.message}"
    return f"{type(failure).__name__}: {failure}"

"""Milvus Lite: a server that runs inside the client, over one file."""

from __future__ import annotations

import importlib
import time
import warnings

from stream.errors import SettingError
from stream.neighbours.protocol import TIMESTAMP_MIN


def load() -> None:
    """Import Milvus Lite, whose use of pkg_resources warns.

    Raises:
        SettingError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("milvus_lite.server_manager")
        except ImportError as error:
            raise SettingError("index.uri ends in .db: install dejaview[embedded] for Milvus Lite") from error


def release(uri: str) -> None:
    """End the process of a file. A client that is closed leaves it running; only its manager ends it."""
    manager = importlib.import_module("milvus_lite.server_manager").server_manager_instance
    manager.release_server(uri)


def clock_timestamp() -> int:
    """A timestamp for an insert, which gets none there: milliseconds in the place where Milvus has them."""
    return (time.time_ns() // 1_000_000) * TIMESTAMP_MIN

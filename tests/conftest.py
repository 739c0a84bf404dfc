"""Real servers for the tests, started once; and what happens where one is missing.

A missing service skips on a laptop and fails in CI: a skipped promise must not look kept.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from hypothesis import settings

from ops.local.errors import LocalError
from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from ops.local.server import LocalServer
from tests.support.missing import is_missing
from tests.support.sabotage import apply, wanted

Server = TypeVar("Server", bound=LocalServer)

# An example that takes long on a busy machine is no finding.
settings.register_profile("no-deadline", parent=settings(), deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker for all tests; `.bootstrap` is its address. Name topics and groups apart; do not stop it."""
    with _running(KafkaServer(tmp_path_factory.mktemp("kafka"))) as server:
        yield server


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Milvus for all tests. Name collections apart."""
    with _running(MilvusServer(tmp_path_factory.mktemp("milvus"))) as server:
        yield server.uri


@pytest.fixture(scope="module")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A module's own broker, to stop, suspend and kill."""
    with _running(KafkaServer(tmp_path_factory.mktemp("own-kafka"))) as server:
        yield server


@pytest.fixture(scope="module")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A module's own Milvus, to stop, suspend and kill."""
    with _running(MilvusServer(tmp_path_factory.mktemp("own-milvus"))) as server:
        yield server


def pytest_configure() -> None:
    """The mutation proof runs tests over a program that is broken on purpose, see `tests/fault/mutations.py`."""
    if wanted(os.environ):
        apply(os.environ)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `torch` need the extra."""
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        is_missing("torch is not installed: pip install -e '.[torch]'")


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
    except LocalError as error:
        is_missing(str(error))
    try:
        yield server
    finally:
        # Its data is in a temporary folder: an orderly end would only take time.
        server.kill()

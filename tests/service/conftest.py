"""Servers that insist on TLS, passwords and rights, started once for the tests that need them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.local.errors import LocalError
from tests.support.least_rights import MILVUS_PASSWORD, MILVUS_USER, Secured
from tests.support.secured import Certificates, SecuredKafka, SecuredMilvus


@pytest.fixture(scope="session")
def secured_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SecuredKafka, SecuredMilvus]]:
    """Both servers, secured; skipped on a laptop without them, failed in CI."""
    folder = tmp_path_factory.mktemp("secured")
    certificates = Certificates.issue(folder / "certificates")
    kafka, milvus = SecuredKafka(folder / "kafka", certificates), SecuredMilvus(folder / "milvus", certificates)
    try:
        kafka.start()
        kafka.warm_up()
        milvus.start()
        milvus.add_user(MILVUS_USER, MILVUS_PASSWORD)
    except LocalError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    yield kafka, milvus
    kafka.kill()
    milvus.kill()


@pytest.fixture
def secured(secured_servers: tuple[SecuredKafka, SecuredMilvus], tmp_path: Path) -> Iterator[Secured]:
    """A deployment that has every right it needs and none more; its workers are ended."""
    made = Secured.create(*secured_servers, tmp_path)
    yield made
    made.deployment.close()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was logged, down to debug, or written to stdout and stderr, librdkafka's and gRPC's lines included."""
    caplog.set_level(logging.DEBUG)
    read: list[str] = []

    def everything() -> str:
        read.extend(capfd.readouterr())
        return caplog.text + "".join(read)

    return everything

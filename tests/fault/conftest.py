"""Servers of the fault tests: they are stopped, emptied and cut off, so nobody else uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ops.local.errors import LocalError
from tests.fault.cluster import Cluster
from tests.fault.round import seed_of_this_run


def pytest_configure() -> None:
    """A seed is drawn once for all rounds, before pytest-xdist starts its workers."""
    os.environ["FAULT_SEED"] = str(seed_of_this_run())


def pytest_report_header() -> str:
    """The seed, also of a run that passes."""
    return f"FAULT_SEED={os.environ['FAULT_SEED']}"


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
    except LocalError as error:
        made.close()
        pytest.fail(str(error), pytrace=False)
    yield made
    made.close()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """Kafka and Milvus behind proxies; after the test they run and are healed."""
    yield running_cluster
    running_cluster.heal()

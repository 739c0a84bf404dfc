"""Servers of the fault tests: they are stopped, emptied and cut off, so nobody else uses them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.local.errors import LocalError
from tests.fault.cluster import Cluster


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

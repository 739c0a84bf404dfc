"""Servers of the fault tests: they are stopped, emptied and cut off, so nobody else uses them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.local.errors import LocalError
from tests.fault.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Kafka and Milvus behind proxies. Every test leaves them running and healed."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
    except LocalError as error:
        made.close()
        pytest.fail(str(error), pytrace=False)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _healed(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.heal()

"""Helm for the chart's tests: built once for this machine, never skipped in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.local.errors import LocalError
from tests.support.helm import helm_program
from tests.support.missing import is_missing

# The first test of all may have to build Helm.
BUILD_TIMEOUT_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT_S))


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    try:
        helm_program()
    except LocalError as error:
        is_missing(str(error))

"""Who owns partitions in the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence


class Owner:
    """Knows what is assigned, and does nothing about it."""

    def __init__(self) -> None:
        self.owned: set[int] = set()

    def assigned(self, partitions: Sequence[int]) -> None:
        self.owned.update(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        self.owned.difference_update(partitions)

    lost = revoked

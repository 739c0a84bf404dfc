"""What an index, of whatever kind, may show of rows of several tenants."""

from __future__ import annotations

from collections.abc import Sequence

from stream.neighbours.protocol import Index, Row
from tests.contract.index_cases import make_row, unit


def check_borders(index: Index, rows: Sequence[Row], tenant: str, number: int, guarantee: int) -> None:
    """Search, and look up, picture `number` for a tenant.

    Args:
        rows: all that the index holds, acknowledged with the timestamp `guarantee`.
    """
    own = {row.row_id for row in rows if row.tenant == tenant}
    (hits,) = index.search(tenant, unit(number)[None], guarantee)
    assert {hit.tenant for hit in hits} <= {tenant}
    assert {hit.row_id for hit in hits} <= own
    asked = make_row(number, tenant).row_id
    assert (asked in {hit.row_id for hit in hits}) == (asked in own)
    found = index.get([asked], guarantee)
    assert {one.hit.tenant for one in found.values()} <= {tenant}
    assert set(found) == {asked} & own

"""What the index holds, held against the ledger."""

from __future__ import annotations

from collections.abc import Callable

from models.model import load_model
from schemas.events import LedgerEntry
from stream.config import IndexSettings
from stream.neighbours.milvus import MilvusIndex
from stream.neighbours.protocol import STRONG
from stream.progress import chain_end
from tests.support.deployment import Deployment, until

WITHIN_S = 60.0
ROWS_MAX = 16_384


def index_of(deployment: Deployment, settings: IndexSettings | None = None) -> MilvusIndex:
    """A client of the deployment's collection, past the proxy, or of another one."""
    return MilvusIndex(settings or deployment.settings.index, load_model(deployment.settings.model.weights).model_id)


def assert_index_is_the_ledgers(
    deployment: Deployment, why: Callable[[], str], settings: IndexSettings | None = None
) -> None:
    """Within a minute the chains reach the ledger's end; the index holds every representative then, and no other."""
    records = deployment.read(deployment.settings.topics.ledger)
    entries = [(record, LedgerEntry.model_validate_json(record.value or b"")) for record in records]
    wanted = {e.representative.row_id: (r.partition, r.offset) for r, e in entries if e.representative}
    last = {record.partition: record.offset + 1 for record in records}
    index = index_of(deployment, settings)

    def ended() -> bool:
        links = index.links(None, None, STRONG)
        ends = {p: chain_end([link for link in links if link.ledger_partition == p]) for p in last}
        return all(end is not None and end.offset >= last[p] for p, end in ends.items())

    until(ended, WITHIN_S, why)
    there = index.get(list(wanted), STRONG)
    missing = sorted(place for row_id, place in wanted.items() if row_id not in there)
    phantoms = _row_ids(index) - set(wanted)
    index.close()
    assert not missing, f"{len(missing)} of {len(wanted)} rows are not in the index: {missing[:20]}"
    assert not phantoms, f"{len(phantoms)} rows of the index are not the ledger's: {sorted(phantoms)[:20]}"


def _row_ids(index: MilvusIndex) -> set[str]:
    """Of all rows but links. Milvus answers with so many rows at most."""
    rows = index._connected().query(
        index.collection,
        filter='tenant != "_links"',
        output_fields=["row_id"],
        limit=ROWS_MAX,
        consistency_level="Strong",
    )
    assert len(rows) < ROWS_MAX
    return {row["row_id"] for row in rows}

"""R11 on every index: random tenants, rows and questions; no row is ever shown over a tenant's border.

Breaks, each tried: a search without its tenant filter, in Milvus with and without the check of the answer's tenants;
a filter that names a prefix (`like "a%"`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from stream.config import IndexSettings
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.milvus import MilvusIndex
from stream.neighbours.protocol import Index, Row
from tests.contract.index_cases import DIMENSION, MODEL, make_row
from tests.fuzz.borders import check_borders
from tests.fuzz.names import HOSTILE, VALID

SEED = 20261121
ROUNDS = 4
QUESTIONS = 25
PICTURES = 12


@pytest.fixture(params=["memory", "FLAT", "HNSW"])
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    if request.param == "memory":
        yield MemoryIndex(neighbours_max=50, dimension=DIMENSION)
        return
    settings = IndexSettings(
        uri=request.getfixturevalue("milvus_uri"),
        collection=f"borders_{request.param}",
        index_type=request.param,
        neighbours_max=50,
        timeout_s=30,
    )
    made = MilvusIndex(settings, MODEL, DIMENSION)
    made.prepare()
    yield made
    made._connected().drop_collection(made.collection, timeout=30)
    made.close()


def test_random_tenants_see_their_own_rows_only(index: Index) -> None:
    """Rows arrive in rounds; after each, random questions, the same pictures and ids under many names."""
    chance = random.Random(SEED)
    rows: list[Row] = []
    for _ in range(ROUNDS):
        places = {(chance.choice(VALID), chance.randrange(PICTURES)) for _ in range(60)}
        known = {row.row_id for row in rows}
        new = [
            row for row in (make_row(number, tenant) for tenant, number in sorted(places)) if row.row_id not in known
        ]
        guarantee = index.insert(new)
        rows += new
        for _ in range(QUESTIONS):
            check_borders(index, rows, chance.choice(VALID), chance.randrange(PICTURES), guarantee)


def test_hostile_names_ask_nothing(index: Index) -> None:
    """No request is made for a name that is none: not of the index, and not for all rows."""
    index.insert([make_row(1, "acme")])
    for raw in HOSTILE:
        name = raw.decode("utf-8", "surrogateescape")
        with pytest.raises(ValueError, match="not a tenant"):
            index.search(name, make_row(1).embedding[None], None)

"""Which collection a deployment uses: an alias beside it says so, once the index was rebuilt.

Without a rebuild there is no alias, and the collection has the deployment's own name. A rebuilt one lies beside it
under another, and the alias points to it: one write in Milvus switches all workers. The alias is never used as an
address. A worker asks now and then what it stands for and moves between two batches: a batch that wrote its rows into
one collection and its link into the other would leave a link whose rows are missing.
"""

from __future__ import annotations

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException


def alias_of(name: str) -> str:
    """The alias that stands beside a deployment's collection name."""
    return f"{name}_live"


def collection_behind(client: MilvusClient, name: str, *, timeout_s: float) -> str:
    """The collection that a deployment's name stands for now: the alias's, or the one of that name."""
    alias = alias_of(name)
    # An alias whose collection was dropped counts as none, here and on the server.
    if not client.has_collection(alias, timeout=timeout_s):
        return name
    return str(client.describe_collection(alias, timeout=timeout_s)["collection_name"])


def point(client: MilvusClient, name: str, collection: str, *, timeout_s: float) -> None:
    """Let a deployment's name stand for this collection from now on."""
    alias = alias_of(name)
    try:
        client.alter_alias(collection, alias, timeout=timeout_s)
    except MilvusException:
        client.create_alias(collection, alias, timeout=timeout_s)

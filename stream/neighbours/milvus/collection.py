"""The collection: what it is made of, and whether the one that is there is ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pymilvus import CollectionSchema, DataType, MilvusClient
from pymilvus.exceptions import MilvusException
from pymilvus.milvus_client.index import IndexParams

from stream.config import IndexSettings
from stream.errors import SettingError, WrongCollection
from stream.neighbours.rows import ENTRY_BYTES_MAX, UPLOAD_ID_BYTES_MAX

SCHEMA_VERSION = 1
VECTOR_FIELD = "embedding"
METRIC = "COSINE"
NAME_CHARS_MAX = 255

# Tenants are spread over these; links have theirs. Fewer hold larger segments, which search faster.
_PARTITIONS = 16
_IVF_LISTS = 128
_IVF_PROBES = 16
_TTL = "collection.ttl.seconds"


def collection_name(settings: IndexSettings, model_id: str) -> str:
    """`index.collection` and the model id, in the characters that Milvus allows.

    Raises:
        SettingError: the name is too long.
    """
    name = f"{settings.collection}_{re.sub(r'[^A-Za-z0-9_]', '_', model_id)}"
    if len(name) > NAME_CHARS_MAX:
        raise SettingError(
            f"the collection's name {name[:80]}… has {len(name)} characters, Milvus allows {NAME_CHARS_MAX}; "
            "shorten index.collection"
        )
    return name


def describe(model_id: str) -> str:
    """The collection's description: what two deployments must agree on."""
    return f"dejaview schema={SCHEMA_VERSION} model={model_id}"


def search_params(settings: IndexSettings, limit: int) -> dict[str, Any]:
    """What a search asks of the index type. HNSW wants `ef` of `limit` at least."""
    params: dict[str, int] = {}
    if settings.index_type == "HNSW":
        params = {"ef": max(settings.search_ef, limit)}
    elif settings.index_type == "IVF_FLAT":
        params = {"nprobe": _IVF_PROBES}
    return {"metric_type": METRIC, "params": params}


def create(
    client: MilvusClient, name: str, settings: IndexSettings, model_id: str, dimension: int, *, timeout_s: float
) -> None:
    """Create the collection unless it is there. Two workers may do this at once: the second finds the first's."""
    if client.has_collection(name, timeout=timeout_s):
        return
    # Milvus Lite refuses every filter on a collection with a partition key (facts).
    options = {} if settings.embedded else {"num_partitions": _PARTITIONS}
    schema = _schema(model_id, dimension, partition_key=not settings.embedded)
    with_race_lost(
        lambda: client.create_collection(name, schema=schema, consistency_level="Strong", timeout=timeout_s, **options),
        lambda: client.has_collection(name, timeout=timeout_s),
    )


def create_vector_index(client: MilvusClient, name: str, settings: IndexSettings, *, timeout_s: float) -> None:
    """Create the vector index unless there is one; the creator may have died before it."""
    if VECTOR_FIELD in client.list_indexes(name, timeout=timeout_s):
        return
    with_race_lost(
        lambda: client.create_index(name, _index_params(settings), timeout=timeout_s),
        lambda: VECTOR_FIELD in client.list_indexes(name, timeout=timeout_s),
    )


def with_race_lost(create_it: Callable[[], object], is_there: Callable[[], bool]) -> None:
    """Create something; an error is none when somebody else created it meanwhile."""
    try:
        create_it()
    except MilvusException:
        if not is_there():
            raise


def check(
    client: MilvusClient, name: str, settings: IndexSettings, model_id: str, dimension: int, *, timeout_s: float
) -> None:
    """Whether the collection is the one this deployment would have created.

    Raises:
        WrongCollection: it is not; the message says in what.
    """
    found = client.describe_collection(name, timeout=timeout_s)
    index = client.describe_index(name, VECTOR_FIELD, timeout=timeout_s) or {}
    fields = {
        field["name"]: (field["type"], {name: int(size) for name, size in field["params"].items()})
        for field in found["fields"]
    }
    wanted: dict[str, tuple[object, object]] = {
        "description": (describe(model_id), found.get("description", "")),
        **{f"field {name}": (kind, fields.get(name)) for name, kind in _fields(dimension).items()},
        "metric": (METRIC, index.get("metric_type")),
        "index.index_type": (settings.index_type, index.get("index_type")),
        f"{_TTL} (a copy of an expired row would be judged unique)": ("0", str(found["properties"].get(_TTL, "0"))),
    }
    for what, (ours, theirs) in wanted.items():
        if ours != theirs:
            raise WrongCollection(
                f"collection {name}: {what}: expected {ours!r}, found {theirs!r}; "
                "correct the setting, or name another index.collection and let INDEX rebuild it from the ledger"
            )


def _fields(dimension: int) -> dict[str, tuple[DataType, dict[str, int]]]:
    """Name -> kind and size of every field; `protocol.Row` says what they hold."""
    return {
        "row_id": (DataType.VARCHAR, {"max_length": 256}),
        "tenant": (DataType.VARCHAR, {"max_length": 64}),
        "upload_id": (DataType.VARCHAR, {"max_length": UPLOAD_ID_BYTES_MAX}),
        "sha256": (DataType.VARCHAR, {"max_length": 64}),
        "pdq": (DataType.VARCHAR, {"max_length": 64}),
        "pdq_quality": (DataType.INT64, {}),
        "bias": (DataType.FLOAT, {}),
        "verdict": (DataType.VARCHAR, {"max_length": 16}),
        "ledger_partition": (DataType.INT64, {}),
        "ledger_offset": (DataType.INT64, {}),
        "entry": (DataType.VARCHAR, {"max_length": ENTRY_BYTES_MAX}),
        VECTOR_FIELD: (DataType.FLOAT_VECTOR, {"dim": dimension}),
    }


def _schema(model_id: str, dimension: int, *, partition_key: bool) -> CollectionSchema:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=describe(model_id))
    for name, (kind, size) in _fields(dimension).items():
        roles = {"is_primary": name == "row_id", "is_partition_key": partition_key and name == "tenant"}
        schema.add_field(name, kind, **roles, **size)
    return schema


def _index_params(settings: IndexSettings) -> IndexParams:
    params: dict[str, int] = {}
    if settings.index_type == "HNSW":
        params = {"M": settings.hnsw_m, "efConstruction": settings.hnsw_ef_construction}
    elif settings.index_type == "IVF_FLAT":
        params = {"nlist": _IVF_LISTS}
    return MilvusClient.prepare_index_params(
        VECTOR_FIELD, index_type=settings.index_type, metric_type=METRIC, index_name=VECTOR_FIELD, params=params
    )

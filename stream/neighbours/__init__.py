"""Who has seen this picture: Milvus, and its plain twin in memory."""

from __future__ import annotations

from stream.config import IndexSettings
from stream.neighbours.protocol import Index


def open_index(settings: IndexSettings, model_id: str) -> Index:
    """The index that the settings name, for one model's embeddings. Connects at the first call."""
    # Imported here: pymilvus takes a second to load, and the plain twin needs none of it.
    from stream.neighbours.milvus import MilvusIndex  # noqa: PLC0415

    return MilvusIndex(settings, model_id)

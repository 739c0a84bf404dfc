"""The Milvus index. Only the modules of this folder import pymilvus and grpc."""

from stream.neighbours.milvus.index import MilvusIndex

__all__ = ["MilvusIndex"]

"""Real Kafka and Milvus on this machine, for trying dejaview and for its tests."""

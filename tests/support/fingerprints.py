"""Made-up fingerprints on a real log: DECIDE and INDEX without pictures. Their uploads are there, as empty records."""

from __future__ import annotations

import random
from collections.abc import Sequence

from models.model import load_model
from schemas.cloudevents import upload_headers
from schemas.events import Fingerprint, SourcePosition, Vector, decode_embedding
from stream.kafka import Admin, LogProducer, Outgoing
from stream.tenants import partition_of
from tests.support.deployment import Deployment
from tests.support.made import at_similarity, fingerprint, random_vector, sha

# With biases of 0 a score is a similarity.
THRESHOLDS = {"duplicate": 0.8, "review": 0.6}


class Log:
    """Appends uploads and their fingerprints to a deployment's topics."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self._deployment = deployment
        self._rng = random.Random(seed)
        self._topic = deployment.settings.topics.uploads
        self._topic_id = Admin(deployment.settings).topics([self._topic])[self._topic].topic_id
        self._model_id = load_model(None).model_id
        self._made: list[Fingerprint] = []

    def append(self, count: int, tenants: Sequence[str], copies: float = 0.5) -> int:
        """Fingerprints in a random order of tenants.

        Args:
            copies: share of near copies (duplicate or review), byte-identical copies and sender's repeats.
        """
        return self._produce([self._next(self._rng.choice(tenants), copies) for _ in range(count)])

    def copies_of_all(self, share: float = 1.0) -> int:
        """A near copy of what was made so far."""
        chosen = [f for f in self._made if self._rng.random() < share]
        return self._produce([self._copy(first, 0.9) for first in chosen])

    def swarm(self, tenant: str, count: int, name: str) -> list[Fingerprint]:
        """Copies of one picture, each near all others."""
        centre = random_vector(self._rng.randrange(1 << 30))
        made = [
            self._new(tenant, at_similarity(centre, 0.97, self._rng.randrange(1 << 30)), f"{name}-{n}")
            for n in range(count)
        ]
        self._made += made[:1]
        return made

    def produce(self, made: Sequence[Fingerprint]) -> int:
        """Append these."""
        return self._produce(made)

    def _next(self, tenant: str, copies: float) -> Fingerprint:
        known = [f for f in self._made[-400:] if f.tenant == tenant]
        if not known or self._rng.random() > copies:
            made = self._new(tenant, random_vector(self._rng.randrange(1 << 30)))
            self._made.append(made)
            return made
        first = self._rng.choice(known)
        kind = self._rng.random()
        if kind < 0.1:
            return first  # the sender's repeat
        if kind < 0.3:
            return first.model_copy(update={"upload_id": self._id()})  # the same bytes
        return self._copy(first, 0.9 if kind < 0.8 else 0.7)

    def _copy(self, first: Fingerprint, similarity: float) -> Fingerprint:
        vector = at_similarity(self._vector(first), similarity, self._rng.randrange(1 << 30))
        return self._new(first.tenant, vector)

    def _new(self, tenant: str, vector: Vector, upload_id: str | None = None) -> Fingerprint:
        name = upload_id or self._id()
        return fingerprint(0, vector, tenant=tenant, upload_id=name, content=sha(name), model_id=self._model_id)

    def _id(self) -> str:
        return f"u{self._rng.randrange(1 << 40)}"

    def _upload(self, made: Fingerprint, partition: int) -> Outgoing:
        headers = upload_headers(made.upload_id, made.tenant, "application/json", "/tests")
        return Outgoing(self._topic, b"-", headers, partition)

    @staticmethod
    def _vector(made: Fingerprint) -> Vector:
        return decode_embedding(made.embedding)

    def _produce(self, made: Sequence[Fingerprint]) -> int:
        topics = self._deployment.settings.topics
        producer = LogProducer(self._deployment.settings)
        uploads = [self._upload(one, n % topics.partitions) for n, one in enumerate(made)]
        producer.produce(uploads)
        producer.flush()
        records = []
        for one, upload in zip(made, uploads, strict=True):
            source = SourcePosition(topic_id=self._topic_id, partition=upload.partition or 0, offset=upload.offset)
            placed = one.model_copy(update={"source": source, "source_topic": self._topic})
            tenant = one.tenant.encode()
            partition = partition_of(tenant, topics.partitions)
            records.append(Outgoing(topics.fingerprints, placed.model_dump_json().encode(), partition=partition))
        producer.produce(records)
        producer.flush()
        return len(made)

"""What travels on the topics: upload, fingerprint, ledger entry, verdict, dead letter.

Every model refuses unknown kinds and ignores unknown fields, so that a reader one release behind
still reads what a newer writer adds. `schemas/asyncapi.yaml` is generated from these classes and
`schemas/golden/` keeps one message of every released version.
"""

from __future__ import annotations

import base64
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

Vector: TypeAlias = NDArray[np.float32]

EMBEDDING_SIZE = 256
# A reader refuses more: raise it in every DECIDE before an ENCODE writes more.
PANELS_MAX = 4
NORM_TOLERANCE = 0.01
UPLOAD_ID_CHARS_MAX = 256
TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
DETAIL_CHARS_MAX = 500
TRACEPARENT_CHARS_MAX = 256

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the image bytes, hex")]
Pdq = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="256-bit PDQ hash, hex")]
Tenant = Annotated[str, Field(pattern=TENANT_PATTERN)]
UploadId = Annotated[str, Field(min_length=1, max_length=UPLOAD_ID_CHARS_MAX)]
Embedding = Annotated[
    str,
    Field(description=f"{EMBEDDING_SIZE} float32 values, little endian, base64; L2 norm 1"),
]


def _unit_length(value: str) -> str:
    norm = float(np.linalg.norm(decode_embedding(value)))
    if not abs(norm - 1.0) < NORM_TOLERANCE:
        raise ValueError(f"the embedding's L2 norm is {norm}, not 1")
    return value


UnitEmbedding = Annotated[Embedding, AfterValidator(_unit_length)]


class Reason(StrEnum):
    """Why an upload has a dead letter instead of a verdict. Bounded: used as a metric label."""

    BAD_EVENT = "bad_event"
    BAD_TENANT = "bad_tenant"
    UNLISTED_TENANT = "unlisted_tenant"
    WRONG_PARTITION = "wrong_partition"
    BAD_REFERENCE = "bad_reference"
    URI_REFUSED = "uri_refused"
    URI_NOT_FOUND = "uri_not_found"
    STORE_UNAVAILABLE = "store_unavailable"
    SHA256_MISMATCH = "sha256_mismatch"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_FORMAT = "unsupported_format"
    BAD_IMAGE = "bad_image"
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_CRASHED = "decoder_crashed"
    BAD_FINGERPRINT = "bad_fingerprint"
    FOREIGN_MODEL = "foreign_model"
    ID_CONFLICT = "id_conflict"


class Evidence(StrEnum):
    """A signal that says that two pictures are copies: on its own, or for the perceptual hash, by tipping the scale."""

    EXACT = "exact"
    PERCEPTUAL = "perceptual"
    EMBEDDING = "embedding"


class VerdictKind(StrEnum):
    DUPLICATE = "duplicate"
    UNIQUE = "unique"
    REVIEW = "review"


class Contract(BaseModel):
    """Base of all contracts: immutable, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")


class UploadReference(Contract):
    """The value of an upload record that points to its image instead of carrying it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: Annotated[str, Field(min_length=1, max_length=4096, description="s3://, file:// or https:// address")]
    sha256: Sha256 | None = None


class SourcePosition(Contract):
    """Where an upload's record lies. The topic id tells a re-created topic from the old one."""

    topic_id: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> str:
        return f"{self.topic_id}:{self.partition}:{self.offset}"


class FromUpload(Contract):
    """What every internal record keeps of the upload record it came from."""

    source: SourcePosition
    source_topic: str
    upload_timestamp_ms: Annotated[int, Field(description="Kafka timestamp of the upload record")]
    event_time: Annotated[datetime | None, Field(description="the sender's ce_time")] = None
    traceparent: Annotated[str | None, Field(max_length=TRACEPARENT_CHARS_MAX)] = None


Share = Annotated[float, Field(ge=0, le=1)]


class Box(Contract):
    """A part of a picture, as shares of its width and height, upright."""

    left: Share
    top: Share
    right: Share
    bottom: Share


class Panel(Contract):
    """A part of an upload that looks like a picture of its own: one of a collage, what a screenshot shows."""

    box: Box
    pdq: Pdq
    pdq_quality: Annotated[int, Field(ge=0, le=100)]
    embedding: UnitEmbedding
    bias: float


class Fingerprint(FromUpload):
    """One decoded and encoded picture, on its way to its judge."""

    kind: Literal["fingerprint"] = "fingerprint"
    tenant: Tenant
    upload_id: UploadId
    sha256: Sha256
    pdq: Pdq
    pdq_quality: Annotated[int, Field(ge=0, le=100)]
    embedding: UnitEmbedding
    bias: Annotated[float, Field(description="mean similarity to the nearest background vectors")]
    panels: Annotated[list[Panel], Field(max_length=PANELS_MAX)] = []
    model_id: str
    format: str
    width: Annotated[int, Field(gt=0, description="pixels")]
    height: Annotated[int, Field(gt=0, description="pixels")]
    byte_count: Annotated[int, Field(gt=0)]
    runtime: str
    timings_s: dict[str, float] = {}


class FingerprintFailure(FromUpload):
    """An upload that could not become a fingerprint; DECIDE turns it into the dead letter."""

    kind: Literal["failure"] = "failure"
    tenant: str | None = None
    upload_id: str | None = None
    reason: Reason
    detail: Annotated[str, Field(max_length=DETAIL_CHARS_MAX)]
    headers: Annotated[dict[str, str], Field(description="the upload record's headers, truncated")] = {}


FingerprintRecord = Annotated[Fingerprint | FingerprintFailure, Field(discriminator="kind")]
fingerprint_record: TypeAdapter[Fingerprint | FingerprintFailure] = TypeAdapter(FingerprintRecord)


class Neighbour(Contract):
    """A representative near the upload."""

    upload_id: UploadId
    similarity: Annotated[float, Field(description="cosine of the two embeddings, rounded to 1e-4")]
    score: Annotated[float, Field(description="similarity, normalised, and what the PDQ hashes add; rounded to 1e-4")]
    verdict: Annotated[VerdictKind, Field(description="the neighbour's own verdict: unique or review")]
    panel: Annotated[Box | None, Field(description="the part of the upload that is near; null: all of it")] = None


class Trace(Contract):
    """What may differ between two runs over the same uploads."""

    source: SourcePosition
    source_topic: str
    upload_timestamp_ms: int
    event_time: datetime | None = None
    runtime: str | None = None
    timings_s: dict[str, float] = {}


class Verdict(Contract):
    """What dejaview says of one upload."""

    tenant: Tenant
    upload_id: UploadId
    verdict: VerdictKind
    repeat: Annotated[bool, Field(description="the sender sent the same upload again")] = False
    match: Annotated[Neighbour | None, Field(description="the best candidate, when it decided")] = None
    similarity: float | None = None
    score: float | None = None
    threshold: Annotated[float, Field(description="duplicate at or above this score")]
    margin: Annotated[float | None, Field(description="score less threshold")] = None
    confidence: Annotated[float, Field(ge=0, le=1, description="P(duplicate | score)")]
    evidence: list[Evidence] = []
    neighbours: list[Neighbour] = []
    model_id: str
    sha256: Sha256
    trace: Trace | None = None

    @property
    def panel(self) -> Box | None:
        """The part of the upload that its match is near; None: all of it, or there is no match."""
        return self.match.panel if self.match is not None else None


class DeadLetter(Contract):
    """An upload that has no verdict, why, and where its record lies (never its bytes)."""

    reason: Reason
    detail: Annotated[str, Field(max_length=DETAIL_CHARS_MAX)]
    tenant: str | None = None
    upload_id: str | None = None
    headers: dict[str, str] = {}
    source: SourcePosition
    source_topic: str
    upload_timestamp_ms: int
    replay: Annotated[str, Field(description="the command that sends the original record again")]


class Representative(Contract):
    """What the index needs of a `unique` or `review` upload."""

    row_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    embedding: Embedding
    bias: float
    pdq: Pdq
    pdq_quality: int


class LedgerEntry(FromUpload):
    """What was decided of one fingerprint record. The ledger is the truth, the index a view of it."""

    verdict: Verdict | None = None
    dead_letter: DeadLetter | None = None
    representative: Representative | None = None


def encode_embedding(vector: Vector) -> str:
    """float32 [256] -> base64 of its little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode("ascii")


def decode_embedding(text: str) -> Vector:
    """Base64 -> float32 [256].

    Raises:
        ValueError: not base64, not 256 values, or a value that is not finite.
    """
    raw = base64.b64decode(text, validate=True)
    if len(raw) != 4 * EMBEDDING_SIZE:
        raise ValueError(f"an embedding has {4 * EMBEDDING_SIZE} bytes, got {len(raw)}")
    vector = np.frombuffer(raw, dtype="<f4")
    if not np.isfinite(vector).all():
        raise ValueError("the embedding holds values that are not finite")
    return vector

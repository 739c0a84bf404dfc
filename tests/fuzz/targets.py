"""What must hold for any input; hypothesis (`make test`) and atheris (`make fuzz`) call the same functions."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from PIL import Image, ImageFile, PngImagePlugin

from models.panels import COST
from models.perceptual import WEIGHT
from schemas.cloudevents import (
    BadEvent,
    Headers,
    claimed_id,
    dead_letter_headers,
    raw_tenant,
    read_upload,
    truncated,
    upload_headers,
    verdict_headers,
)
from schemas.events import (
    DETAIL_CHARS_MAX,
    FingerprintFailure,
    LedgerEntry,
    Reason,
    SourcePosition,
    fingerprint_record,
)
from stream.errors import ItemError
from stream.incoming import RECORD_BYTES_MAX, Intake
from stream.indexrows import ENTRY_BYTES_MAX, entry_text
from stream.intake.decode import Decoded, UndecodableError, decode
from stream.intake.limits import Limits
from stream.judge import Judge, Knowledge
from stream.kafka import Record
from stream.memory import Memory
from stream.tenants import parse_tenant, partition_of
from stream.window import Window
from tests.support.made import MODEL_ID, hit, random_vector, rule_of

PARTITIONS = 12
LIMITS = Limits(
    bytes_max=20_000_000, pixels_max=4_000_000, side_max=4_096, cpu_s=5.0, wall_s=15.0, memory_bytes=1_500_000_000
)
INTAKE = Intake("fingerprints-1", PARTITIONS, MODEL_ID, None)
SOURCE = SourcePosition(topic_id="uploads-1", partition=0, offset=0)


def event(headers: Headers, value: bytes | None) -> None:
    """An upload record is read or refused, and what ENCODE makes of it is a record that DECIDE reads back."""
    raw = raw_tenant(headers, value)
    assert 0 <= partition_of(raw or b"", PARTITIONS) < PARTITIONS
    upload_id = claimed_id(headers, value)
    try:
        tenant = parse_tenant(raw, None)
        upload = read_upload(headers, value)
    except (BadEvent, ItemError) as error:
        reason, detail = getattr(error, "reason", Reason.BAD_EVENT), str(error)
        assert detail
    else:
        upload_headers(upload.upload_id, tenant, "image/jpeg", "/fuzz")
        assert upload_id == upload.upload_id
        reason, detail = Reason.BAD_IMAGE, "made up"
        made = FingerprintFailure(**_common(), reason=reason, detail=detail, event_time=upload.event_time)
        assert fingerprint_record.validate_json(made.model_dump_json(exclude_none=True)) == made
    failure = FingerprintFailure(
        **_common(), upload_id=upload_id, reason=reason, detail=detail[:DETAIL_CHARS_MAX], headers=truncated(headers)
    )
    written = failure.model_dump_json(exclude_none=True).encode()
    assert len(written) <= RECORD_BYTES_MAX
    assert fingerprint_record.validate_json(written) == failure


def fingerprint(value: bytes) -> None:
    """A record of the fingerprints topic is judged or has a dead letter; its entry is read back and fits the index."""
    record = Record("dejaview.fingerprints", partition_of(b"t", PARTITIONS), 5, 1_000, [], value)
    work = INTAKE.work(record)
    if INTAKE.is_foreign(work):
        work = INTAKE.foreign(work)
    # DECIDE's and INDEX's metrics.
    assert math.isfinite(work.record.upload_timestamp_ms / 1000)
    window = Window(10)
    window.append(hit(1.0, name="before", offset=1), random_vector(1))
    (outcome,) = Judge(window, Memory(10), rule_of).judge([work], Knowledge())
    entry = outcome.entry
    assert entry is not None
    again = LedgerEntry.model_validate_json(entry.model_dump_json(exclude_none=True))
    assert again.model_dump_json(exclude_none=True) == entry.model_dump_json(exclude_none=True)
    told = entry.verdict or entry.dead_letter
    assert told is not None
    json.loads(told.model_dump_json(), parse_constant=_refuse)
    assert len(entry_text(entry).encode()) <= ENTRY_BYTES_MAX or entry.verdict is None
    # NaN is below, and above, nothing: every later comparison with this row would be false.
    assert entry.representative is None or -1.0 <= entry.representative.bias <= 1.0
    if entry.verdict is not None:
        # A cosine less biases of at most 1, and what the hashes may add.
        assert entry.verdict.score is None or abs(entry.verdict.score) <= 2 + WEIGHT + COST
        verdict_headers(entry.verdict, entry.source.key, entry.traceparent)
        assert entry.verdict.tenant == "t"
    elif entry.dead_letter is not None:
        dead_letter_headers(entry.dead_letter, entry.traceparent)
        assert not set(";|&$`\n<>") & set(entry.dead_letter.replay)


def picture(data: bytes) -> Decoded | None:
    """Bytes are a picture within the limits, or `UndecodableError`."""
    try:
        found = decode(data, LIMITS)
    except UndecodableError:
        return None
    assert found.pixels.shape == (224, 224, 3)
    assert 0 < found.width * found.height <= LIMITS.pixels_max
    assert len(found.pdq) == 64
    return found


@contextmanager
def pillow_restored() -> Iterator[None]:
    """Put Pillow's process-wide limits back afterwards."""
    places: list[tuple[ModuleType, str]] = [(Image, "MAX_IMAGE_PIXELS"), (ImageFile, "LOAD_TRUNCATED_IMAGES")]
    places += [(PngImagePlugin, "MAX_TEXT_CHUNK"), (PngImagePlugin, "MAX_TEXT_MEMORY")]
    before = [getattr(owner, name) for owner, name in places]
    with warnings.catch_warnings():
        yield
    for (owner, name), value in zip(places, before, strict=True):
        setattr(owner, name, value)


def _common() -> dict[str, Any]:
    return {"source": SOURCE, "source_topic": "uploads", "upload_timestamp_ms": 1}


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")

"""Uploads and verdicts for the demo's tests, without pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.background import Background
from models.calibration import Calibration, Table
from models.model import Model
from ops.demo.photos import Collection, Photo
from ops.demo.run import Report
from ops.demo.tally import Judged, totals
from ops.demo.uploads import Kind, Upload
from schemas.events import DeadLetter, Evidence, Neighbour, Reason, SourcePosition, Trace, Verdict, VerdictKind

TOPIC_ID = "uploads"


def photo(name: str, scene: str = "", source: str = "a shelf", licence: str = "CC0") -> Photo:
    return Photo(name, Path("/nowhere") / "file.png", scene or name, source, licence)


def upload(name: str = "cat.png", kind: Kind = Kind.ORIGINAL, edit: str = "", *, scene: str = "") -> Upload:
    done = edit or str(kind)
    upload_id = f"{name}/{Kind.ORIGINAL if kind is Kind.REPEAT else done}"
    sha256 = hashlib.sha256(upload_id.encode()).hexdigest()
    return Upload(upload_id, kind, photo(name, scene), done, Path("/nowhere/00001.jpg"), sha256, upload_id.encode())


def position(offset: int = 0, partition: int = 0) -> SourcePosition:
    return SourcePosition(topic_id=TOPIC_ID, partition=partition, offset=offset)


def verdict(
    of: Upload,
    kind: VerdictKind,
    match: Upload | None = None,
    *,
    repeat: bool = False,
    offset: int = 0,
    sent_ms: int = 0,
) -> Verdict:
    score = None if match is None else 0.5
    near = None
    if match is not None:
        near = Neighbour(upload_id=match.upload_id, similarity=0.9, score=0.5, verdict=VerdictKind.UNIQUE)
    return Verdict(
        tenant="demo",
        upload_id=of.upload_id,
        verdict=kind,
        repeat=repeat,
        match=near,
        similarity=None if match is None else 0.9,
        score=score,
        threshold=0.4,
        margin=None if match is None else 0.1,
        confidence=0.75,
        evidence=[Evidence.EMBEDDING] if match is not None else [],
        neighbours=[near] if near is not None else [],
        model_id="model",
        sha256=of.sha256,
        trace=Trace(source=position(offset), source_topic="dejaview.uploads", upload_timestamp_ms=sent_ms),
    )


def dead_letter(offset: int = 0, detail: str = "no picture") -> DeadLetter:
    return DeadLetter(
        reason=Reason.BAD_IMAGE,
        detail=detail,
        source=position(offset),
        source_topic="dejaview.uploads",
        upload_timestamp_ms=0,
        replay="dejaview replay",
    )


def report(judged: Sequence[Judged], *, sent: int | None = None) -> Report:
    calibration = Calibration(
        model_id="model",
        duplicate_threshold=0.4,
        review_threshold=0.3,
        alone=Table(scores=[0.0, 1.0], probabilities=[0.0, 1.0]),
        agreed=Table(scores=[0.0, 1.0], probabilities=[0.0, 1.0]),
        fitted_on={},
        measured={},
        recall_per_edit={},
        rule="",
        command="",
    )
    photos = [one.upload.photo for one in judged if one.upload.kind is Kind.ORIGINAL]
    return Report(
        collection=Collection(photos, [], "a shelf", distinct=True, skipped=[]),
        model=Model("model", calibration, Background(np.ones((1, 256), dtype=np.float32))),
        judged=list(judged),
        lost=[],
        totals=totals(judged, len(judged) if sent is None else sent, 2.0),
        log_tail="the last words",
    )

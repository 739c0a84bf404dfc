"""A folder's pictures judged by the same encoder and decision as uploads, in this process, without any server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from models.background import Background
from models.calibration import Calibration
from models.encoder import Encoder
from schemas.events import Reason, Vector, Verdict, VerdictKind
from stream.config import IntakeSettings
from stream.decision import Item, Rule, judge
from stream.errors import ItemError
from stream.intake.decode import Decoded
from stream.intake.sandbox import DecoderPool
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import Row
from stream.tenants import row_id

BATCH = 64
NEIGHBOURS_MAX = 10
_TENANT = "scan"


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file: its fingerprint and size. `embedding` is float32 [256] of length 1."""

    name: str
    file: Path
    width: int
    height: int
    byte_count: int
    sha256: str
    pdq: str
    pdq_quality: int
    bias: float
    embedding: Vector

    @property
    def worth(self) -> tuple[int, int, str]:
        """Smaller is better: more pixels, then more bytes, then the name."""
        return -self.width * self.height, -self.byte_count, self.name


@dataclass(frozen=True, slots=True)
class Member:
    """A picture that is a copy of its group's best one, or may be (`review`)."""

    picture: Scanned
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Group:
    """Copies of one picture, the best of them apart: most pixels, then most bytes."""

    best: Scanned
    members: list[Member]


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that is no picture dejaview takes."""

    name: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found. `unique` have no copies."""

    model_id: str
    pictures: list[Scanned]
    groups: list[Group]
    unique: list[Scanned]
    failures: list[Failure]


def scan(
    files: Sequence[tuple[str, Path]],
    encoder: Encoder,
    background: Background,
    calibration: Calibration,
    done: Callable[[int], None] = lambda _: None,
) -> Scan:
    """Decode, encode, judge. The largest picture is judged first, so that a group's first is its best.

    Args:
        files: names, each once, and where they are.
        done: told how many files have been encoded.
    """
    pictures, failures = _fingerprints(files, encoder, background, done)
    rule = Rule(calibration.duplicate_threshold, calibration.review_threshold, NEIGHBOURS_MAX, calibration)
    verdicts = list(_judged(sorted(pictures, key=lambda one: one.worth), rule, encoder.model_id))
    by_name = {picture.name: picture for picture, _ in verdicts}
    members: dict[str, list[Member]] = {}
    roots: dict[str, str] = {}
    for picture, verdict in verdicts:
        if verdict.match is None:
            roots[picture.name] = picture.name
            continue
        # A match may itself be in review of another: the group is the first one's.
        root = roots[picture.name] = roots[verdict.match.upload_id]
        members.setdefault(root, []).append(Member(picture, verdict))
    return Scan(
        encoder.model_id,
        pictures,
        [Group(by_name[root], found) for root, found in members.items()],
        [by_name[name] for name, root in roots.items() if name == root and name not in members],
        failures,
    )


def summary(found: Scan) -> str:
    """One line."""
    copies = sum(len(group.members) for group in found.groups)
    return (
        f"{len(found.pictures)} pictures: {len(found.groups)} groups with {copies} copies, "
        f"{len(found.unique)} without copies, {len(found.failures)} not judged"
    )


def _fingerprints(
    files: Sequence[tuple[str, Path]], encoder: Encoder, background: Background, done: Callable[[int], None]
) -> tuple[list[Scanned], list[Failure]]:
    pictures: list[Scanned] = []
    failures: list[Failure] = []
    settings = IntakeSettings()
    pool = DecoderPool(settings)
    try:
        with ThreadPoolExecutor(settings.decoders) as threads:
            waiting = iter(files)
            while batch := list(islice(waiting, BATCH)):
                read = list(threads.map(lambda item: _decoded(pool, settings, *item), batch))
                failures += [one for one in read if isinstance(one, Failure)]
                good = [one for one in read if not isinstance(one, Failure)]
                if good:
                    pictures += _encoded(good, encoder, background)
                done(len(pictures) + len(failures))
    finally:
        pool.close()
    return pictures, failures


@dataclass(frozen=True, slots=True)
class _Read:
    name: str
    file: Path
    sha256: str
    byte_count: int
    decoded: Decoded


def _decoded(pool: DecoderPool, settings: IntakeSettings, name: str, file: Path) -> _Read | Failure:
    try:
        size = file.stat().st_size
        if size > settings.bytes_max:
            return Failure(name, Reason.TOO_LARGE, f"{size} bytes; at most {settings.bytes_max} are read")
        content = file.read_bytes()
        return _Read(name, file, hashlib.sha256(content).hexdigest(), len(content), pool.decode(content))
    except ItemError as error:
        return Failure(name, error.reason, error.detail)
    except OSError as error:
        return Failure(name, Reason.BAD_IMAGE, f"it cannot be read: {error.strerror}")


def _encoded(batch: Sequence[_Read], encoder: Encoder, background: Background) -> Iterator[Scanned]:
    vectors = encoder.encode(np.stack([one.decoded.pixels for one in batch]))
    biases = background.bias(vectors)
    for one, vector, bias in zip(batch, vectors, biases, strict=True):
        yield Scanned(
            name=one.name,
            file=one.file,
            width=one.decoded.width,
            height=one.decoded.height,
            byte_count=one.byte_count,
            sha256=one.sha256,
            pdq=one.decoded.pdq,
            pdq_quality=one.decoded.pdq_quality,
            bias=float(bias),
            embedding=vector,
        )


def _judged(pictures: Iterable[Scanned], rule: Rule, model_id: str) -> Iterator[tuple[Scanned, Verdict]]:
    index = MemoryIndex(NEIGHBOURS_MAX)
    for place, picture in enumerate(pictures):
        item = Item(
            row_id=row_id(_TENANT, picture.sha256), tenant=_TENANT, upload_id=picture.name, sha256=picture.sha256,
            pdq=picture.pdq, pdq_quality=picture.pdq_quality, bias=picture.bias, embedding=picture.embedding,
            model_id=model_id,
        )  # fmt: skip
        hits = index.search(_TENANT, picture.embedding[None], None)[0]
        hits += [found.hit for found in index.get([item.row_id], None).values()]
        verdict = judge(item, hits, rule)
        if verdict.verdict is not VerdictKind.DUPLICATE:
            index.insert([_row(item, verdict.verdict, place)])
        yield picture, verdict


def _row(item: Item, verdict: VerdictKind, place: int) -> Row:
    return Row(
        row_id=item.row_id, tenant=item.tenant, upload_id=item.upload_id, sha256=item.sha256, pdq=item.pdq,
        pdq_quality=item.pdq_quality, bias=item.bias, verdict=verdict, ledger_partition=0, ledger_offset=place,
        entry="{}", embedding=item.embedding,
    )  # fmt: skip

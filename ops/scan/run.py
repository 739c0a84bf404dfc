"""A folder's pictures judged by the same encoder and decision as uploads, in this process, without any server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
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
from stream.decision import Item, Rule, View, judge
from stream.errors import ItemError
from stream.intake.decode import Decoded
from stream.intake.sandbox import DecoderPool
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import Hit, Row
from stream.prepare import box_of
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
    panels: tuple[View, ...]

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
    """Copies of one picture, the best of them apart: most pixels, then most bytes.

    A member whose match has a `panel` shows the best picture in a part of itself, and may be larger.
    """

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

    A collage may be larger than what it shows: whatever has panels and no copy yet is looked at once more in the end.

    Args:
        files: names, each once, and where they are.
        done: told how many files have been encoded.
    """
    pictures, failures = _fingerprints(files, encoder, background, done)
    rule = Rule(calibration.duplicate_threshold, calibration.review_threshold, NEIGHBOURS_MAX, calibration)
    gallery = _Gallery(rule, encoder.model_id)
    by_name = {picture.name: picture for picture in pictures}
    members: dict[str, list[Member]] = {}
    roots: dict[str, str] = {}

    def take(picture: Scanned, verdict: Verdict) -> None:
        if verdict.match is None:
            roots[picture.name] = picture.name
            return
        # A match may itself be in review of another: the group is the first one's.
        root = roots[picture.name] = roots[verdict.match.upload_id]
        members.setdefault(root, []).append(Member(picture, verdict))

    in_order = sorted(pictures, key=lambda one: one.worth)
    for picture in in_order:
        take(picture, gallery.judge(picture))
    for picture in in_order:
        if picture.panels and roots[picture.name] == picture.name and picture.name not in members:
            take(picture, gallery.shown_by(picture))
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


def part(verdict: Verdict) -> str:
    """Which part of the picture is the copy, in words; nothing when it is all of it."""
    panel = verdict.panel
    if panel is None:
        return ""
    sides = (panel.left, panel.top, panel.right, panel.bottom)
    return "  its part from {:.0%} {:.0%} to {:.0%} {:.0%}".format(*sides)


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
    vectors = encoder.encode(np.stack([pixels for one in batch for pixels in one.decoded.inputs]))
    encoded = iter(zip(vectors, map(float, background.bias(vectors)), strict=True))
    for one in batch:
        vector, bias = next(encoded)
        panels = tuple(
            View(*next(encoded), part.pdq.hash, part.pdq.quality, box_of(part.box)) for part in one.decoded.panels
        )
        yield Scanned(
            name=one.name,
            file=one.file,
            width=one.decoded.width,
            height=one.decoded.height,
            byte_count=one.byte_count,
            sha256=one.sha256,
            pdq=one.decoded.pdq,
            pdq_quality=one.decoded.pdq_quality,
            bias=bias,
            embedding=vector,
            panels=panels,
        )


class _Gallery:
    """What was judged so far."""

    def __init__(self, rule: Rule, model_id: str) -> None:
        # One row more than is looked at: a picture's own.
        self._index = MemoryIndex(rule.neighbours_max + 1)
        self._rule, self._model_id = rule, model_id

    def judge(self, picture: Scanned) -> Verdict:
        """As an upload is judged; a representative enters the gallery."""
        item = self._item(picture)
        hits, *of_panels = self._near(item)
        hits += [found.hit for found in self._index.get([item.row_id], None).values()]
        verdict = judge(item, hits, self._rule, of_panels)
        if verdict.verdict is not VerdictKind.DUPLICATE:
            self._index.insert([_row(item, verdict.verdict, self._index.count_rows())])
        return verdict

    def shown_by(self, picture: Scanned) -> Verdict:
        """Of one in the gallery: what its panels say, held against all that came before and after it."""
        item = self._item(picture)
        _, *of_panels = self._near(item)
        return judge(item, (), self._rule, of_panels)

    def _near(self, item: Item) -> list[list[Hit]]:
        return self._index.search(_TENANT, np.stack([view.embedding for view in item.views]), None)

    def _item(self, picture: Scanned) -> Item:
        return Item(
            row_id=row_id(_TENANT, picture.sha256), tenant=_TENANT, upload_id=picture.name, sha256=picture.sha256,
            pdq=picture.pdq, pdq_quality=picture.pdq_quality, bias=picture.bias, embedding=picture.embedding,
            model_id=self._model_id, panels=picture.panels,
        )  # fmt: skip


def _row(item: Item, verdict: VerdictKind, place: int) -> Row:
    return Row(
        row_id=item.row_id, tenant=item.tenant, upload_id=item.upload_id, sha256=item.sha256, pdq=item.pdq,
        pdq_quality=item.pdq_quality, bias=item.bias, verdict=verdict, ledger_partition=0, ledger_offset=place,
        entry="{}", embedding=item.embedding,
    )  # fmt: skip

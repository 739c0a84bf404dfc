"""The demo from the first file to the totals."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event
from typing import Protocol

from models.model import Model
from ops.demo.embedded import embedded_service, logs_into, raise_failure, wait_until_ready
from ops.demo.photos import Collection, collection
from ops.demo.tally import Assessor, Judged, Totals, totals
from ops.demo.traffic import Answer, AnswerLog, Traffic
from ops.demo.uploads import DEMO_EDITS, Kind, Upload, Workshop
from schemas.events import DeadLetter, Verdict
from stream.kafka import LogProducer
from stream.service import Service

SEED = 20260
LOG_LINES_SHOWN = 12


class Screen(Protocol):
    """Where the run is shown while it goes on."""

    def phase(self, what: str, total: int = 0) -> None:
        """The next part begins; 0: nobody can tell how long it is."""

    def judged(self, judged: Judged) -> None:
        """An answer came."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the run found. `lost`: uploads without an answer; `log_tail`: the stages' last words, if any was lost."""

    collection: Collection
    model: Model
    judged: list[Judged]
    lost: list[Upload]
    totals: Totals
    log_tail: str


def run_demo(folder: Path | None, photos_max: int, screen: Screen) -> Report:
    """Run all stages in this program over photographs and copies of them. Leaves nothing behind.

    Raises:
        DejaviewError: nothing to show, or a stage ended; the message says what to do.
    """
    chosen = collection(folder, photos_max)
    with tempfile.TemporaryDirectory(prefix="dejaview-demo-") as name:
        # Resolved: the temporary folder may be reached through a link (macOS).
        place = Path(name).resolve()
        log_file = place / "demo.log"
        with logs_into(log_file):
            return _run(chosen, place, log_file, screen)


def _run(chosen: Collection, place: Path, log_file: Path, screen: Screen) -> Report:
    files = place / "uploads"
    files.mkdir()
    workshop = Workshop(files, SEED)
    stopped = Event()
    originals = workshop.originals(chosen.photos)
    second_views = workshop.originals(chosen.second_views, Kind.SECOND_VIEW)
    screen.phase("Starting dejaview and editing the photographs")
    with ThreadPoolExecutor(1, thread_name_prefix="edits") as pool:
        copies = pool.submit(_edit, workshop, originals, stopped)
        try:
            with embedded_service(place, files) as service:
                # Before the wait: the broker makes every consumer group wait for members, all at the same time.
                session = _Session(service, screen, Assessor(distinct=chosen.distinct))
                try:
                    wait_until_ready(service)
                    return session.run(chosen, originals, second_views, copies, log_file)
                finally:
                    session.close()
        finally:
            stopped.set()


def _edit(workshop: Workshop, originals: Sequence[Upload], stopped: Event) -> list[Upload]:
    copies = []
    for copy in workshop.copies(originals, DEMO_EDITS):
        if stopped.is_set():
            break
        copies.append(copy)
    return copies


class _Session:
    """One pass over a running service."""

    def __init__(self, service: Service, screen: Screen, assessor: Assessor) -> None:
        self._service = service
        self._screen = screen
        self._assessor = assessor
        self._judged: list[Judged] = []
        self._judging_s = 0.0
        self._answers = AnswerLog(service.settings)
        topic = service.settings.topics.uploads
        self._traffic = Traffic(topic, LogProducer(service.settings), self._answers, self._heard, self._check)

    def close(self) -> None:
        self._answers.close()

    def run(
        self,
        chosen: Collection,
        originals: Sequence[Upload],
        second_views: Sequence[Upload],
        copies: Future[list[Upload]],
        log_file: Path,
    ) -> Report:
        """Originals first, so that they are first in the log; then everything else in a seeded order."""
        self._answers.open(self._check)
        ready = copies.result()
        others = [*ready, *second_views]
        Random(SEED).shuffle(others)  # noqa: S311 - an order, no secret
        lost = self._send("Judging the photographs", originals) + self._send("Judging the copies", others)
        counted = totals(self._judged, len(originals) + len(others), self._judging_s)
        log_tail = _tail(log_file) if lost else ""
        return Report(chosen, self._service.model, self._judged, lost, counted, log_tail)

    def _send(self, what: str, uploads: Sequence[Upload]) -> list[Upload]:
        self._screen.phase(what, len(uploads))
        for upload in uploads:
            self._assessor.expect(upload)
        begun = time.monotonic()
        lost = self._traffic.run(uploads)
        self._judging_s += time.monotonic() - begun
        return lost

    def _heard(self, upload: Upload, answer: Answer, latency_s: float) -> None:
        verdict = answer if isinstance(answer, Verdict) else None
        dead_letter = answer if isinstance(answer, DeadLetter) else None
        judged = self._assessor.assess(upload, verdict, dead_letter, latency_s)
        self._judged.append(judged)
        self._screen.judged(judged)

    def _check(self) -> None:
        raise_failure(self._service)


def _tail(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])

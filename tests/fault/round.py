"""One round: a deployment under load, faults that must hit it, a healing, and what an independent verifier says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

from models.calibration import Calibration
from stream.config import Settings
from stream.decision import Rule
from stream.errors import BrokerUnavailable
from tests.fault.answers import Answers
from tests.fault.cluster import Cluster
from tests.support.deployment import ROOT, SentUpload, Worker, until
from tests.support.offline import disagreement
from tests.support.pictures import uploads

LOGS = Path(os.environ.get("FAULT_LOGS", ROOT / "build" / "fault"))
VERIFIER = Path(__file__).with_name("verifier.py")
READY_S = 120.0
HIT_S = 60.0
FELT_S = 30.0
# Per stage the metric that says that this worker has something in its hands.
IN_HAND = {
    "encode": "dejaview_in_flight_uploads",
    "decide": 'dejaview_consumer_lag_records{stage="decide"}',
    "index": "dejaview_index_progress_lag_records",
}


@dataclass(frozen=True)
class Shape:
    """How large a round is."""

    uploads: int = 900
    tenants: int = 24
    partitions: int = 6
    encoders: int = 1
    deciders: int = 2
    indexers: int = 1


def stage_of(worker: str) -> str:
    """A worker's stage, from its name."""
    return worker.partition("-")[0]


def _has_work(worker: Worker, metric: str) -> bool:
    return worker.metrics().get(metric, 0) > 0


def seed_of_this_run() -> int:
    """`FAULT_SEED`: a number, or `random`; a stated one if not set, so that CI repeats itself."""
    given = os.environ.get("FAULT_SEED", "20261121")
    return random.SystemRandom().randrange(1 << 31) if given == "random" else int(given)


# Drawn pictures are nearer to each other than photographs: with these about half of them are unique.
THRESHOLDS = {"duplicate": 0.42, "review": 0.38}


Rules = Callable[[str], Rule]


def rule_at(thresholds: Mapping[str, float]) -> Rules:
    """The rule of every tenant of a round."""
    calibration, neighbours_max = Calibration.load(), Settings().index.neighbours_max
    rule = Rule(thresholds["duplicate"], thresholds["review"], neighbours_max, calibration)
    return lambda _tenant: rule


class Round:
    """A deployment with its load. Use as a context manager; `finish` is the proof."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, seed: int, shape: Shape, **values: Any) -> None:
        self.cluster = cluster
        self.shape = shape
        self.seed = seed
        self.rng = random.Random(seed)
        self.name = name
        self.folder = LOGS / f"{name}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / "round.log").open("w", buffering=1)
        values = deepcopy(values)
        values.setdefault("index", {}).setdefault("index_type", "FLAT")
        values.setdefault("tenants", {"thresholds": {f"tenant-{n}": THRESHOLDS for n in range(shape.tenants)}})
        self.deployment = cluster.deployment(folder / name, shape.partitions, **values)
        self.answers = Answers(self.deployment)
        self.workers: dict[str, Worker] = {}
        self.sent = 0
        self._sender: threading.Thread | None = None
        self._ended = threading.Event()
        self._begun = time.monotonic()
        self.note("round", seed=seed, shape=str(shape), topics=self.deployment.settings.topics.uploads)

    def __enter__(self) -> Self:
        self.answers.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.deployment.close()
        self.answers.close()
        for worker in self.deployment.workers:
            (self.folder / worker.log.name).write_bytes(worker.log.read_bytes())
        self._log.close()

    def note(self, what: str, **more: Any) -> None:
        """One line of the round's log, also on the terminal (pytest -s)."""
        line = {"at_s": round(time.monotonic() - self._begun, 2), "what": what, **more}
        self._log.write(json.dumps(line, default=str) + "\n")
        sys.stdout.write(json.dumps(line, default=str) + "\n")

    # -- workers

    def start(self, *stages: str, **values: Any) -> None:
        """Start the shape's workers of these stages (all if none is named) and wait until they own partitions."""
        counts = {"encode": self.shape.encoders, "decide": self.shape.deciders, "index": self.shape.indexers}
        names = [f"{stage}-{n}" for stage in stages or counts for n in range(counts[stage])]
        for name in names:
            self.launch(name, **values)
        self.wait_ready(names)

    def launch(self, name: str, **values: Any) -> Worker:
        """Start (again) a worker; its stage is in its name."""
        self.workers[name] = self.deployment.start(name, stage_of(name), **values)
        self.note("started", worker=name, pid=self.workers[name].process.pid)
        return self.workers[name]

    def wait_ready(self, names: Sequence[str]) -> None:
        for name in names:
            self.workers[name].wait_ready(READY_S)
        self.note("ready", workers=names)

    def of(self, stage: str) -> list[str]:
        """Names of the running workers of a stage."""
        return [n for n, w in self.workers.items() if n.startswith(stage) and w.process.poll() is None]

    # -- load

    def flow(self, backlog: int = 250) -> None:
        """Send the shape's uploads, so that about `backlog` of them are unanswered until the last is sent."""
        shape = self.shape
        made = uploads(shape.uploads, self.seed, shape.tenants, shape.partitions)

        def run() -> None:
            while batch := list(islice(made, backlog // 5)):
                self._send_surely(batch)
                while self.sent - self.answers.count > backlog:
                    if self._ended.wait(0.05):
                        return

        self._send_in_background(run)

    def send(self, spread_s: float = 0.0, made: Iterator[SentUpload] | None = None, batch: int | None = None) -> None:
        """Send the shape's uploads: half at once, the rest spread over this time.

        Args:
            made: other uploads than those of `tests.support.pictures`; an iterator that waits sets the pace itself.
            batch: how many are sent together; a fortieth of the shape's if not set.
        """
        shape = self.shape
        made = made or uploads(shape.uploads, self.seed, shape.tenants, shape.partitions)
        size = batch or max(1, shape.uploads // 40)

        def run() -> None:
            taken = 0
            while waiting := list(islice(made, size)):
                self._send_surely(waiting)
                taken += len(waiting)
                if taken > shape.uploads // 2 and self._ended.wait(spread_s / 20):
                    return

        self._send_in_background(run)

    def _send_in_background(self, run: Callable[[], None]) -> None:
        self._sender = threading.Thread(target=run, daemon=True)
        self._sender.start()

    def _send_surely(self, batch: Sequence[SentUpload]) -> None:
        """Send until the broker has all; what arrived twice is the sender's repeat, and judged as one."""
        sure = True
        while not self._ended.is_set():
            try:
                self.deployment.send(batch)
                self.sent = self.sent + len(batch) if sure else self.deployment.arrived()
            except BrokerUnavailable as error:
                self.note("sent again", why=str(error))
                sure = False
            else:
                return

    def wait_answered(self, share: float, timeout_s: float = 240.0) -> None:
        """Until this share of all uploads has an answer."""
        wanted = int(share * self.shape.uploads)
        until(
            lambda: self.answers.count >= wanted, timeout_s, lambda: f"{self.answers.count} of {wanted}; {self.tails()}"
        )

    # -- faults

    def hit(self, *names: str) -> None:
        """Wait until every named worker has work in hand and uploads are unanswered. A fault comes right after.

        Fails when that does not come: the round would prove nothing.
        """
        for name in names:
            metric = IN_HAND[stage_of(name)]
            worker = self.workers[name]
            until(partial(_has_work, worker, metric), HIT_S, partial(str, f"no hit: {name} has nothing in hand"))
        unanswered = self.sent - self.answers.count
        in_hand = {name: self.workers[name].metrics().get(IN_HAND[stage_of(name)]) for name in names}
        assert unanswered > 0, f"no hit: all {self.sent} uploads are answered; {in_hand}"
        self.note("hit", sent=self.sent, answered=self.answers.count, in_hand=in_hand)

    def errors(self, metric: str) -> float:
        """The sum of a counter over all living workers."""
        return sum(
            value
            for worker in self.workers.values()
            if worker.process.poll() is None
            for name, value in worker.metrics().items()
            if name.startswith(metric)
        )

    @contextmanager
    def felt(self, *metrics: str) -> Iterator[None]:
        """Around a fault of a server: some worker must have counted it."""
        before = sum(map(self.errors, metrics))
        yield
        until(lambda: sum(map(self.errors, metrics)) > before, FELT_S, lambda: f"no hit: none of {metrics} has risen")
        self.note("felt", metrics=metrics, before=before, after=sum(map(self.errors, metrics)))

    # -- the proof

    def all_indexed(self) -> bool:
        """Every window is empty: what comes now is found in the index or not at all."""
        held = [self.workers[name].metrics().get("dejaview_window_rows", 1) for name in self.of("decide")]
        return sum(held) == 0

    def wait_all(self, healed_within_s: float) -> None:
        """Everything that was sent is answered within the bound."""
        healed = time.monotonic()
        self.note("healed", sent=self.sent, answered=self.answers.count)
        if self._sender is not None:
            self._sender.join(healed_within_s)
        until(
            lambda: self.answers.count >= self.sent,
            healed_within_s,
            lambda: f"{self.answers.count} of {self.sent}; {self.tails()}",
        )
        self.note("finished", answered=self.answers.count, seconds=round(time.monotonic() - healed, 1))

    def finish(self, healed_within_s: float, thresholds: Mapping[str, float] = THRESHOLDS) -> dict[str, Any]:
        """Everything is answered within the bound; the verifier finds nothing; verdicts are the offline judge's."""
        self.wait_all(healed_within_s)
        report = self.verify()
        self.compare(thresholds)
        self.note("proved", **{name: report[name] for name in ("uploads", "verdicts", "dead_letters", "kinds")})
        return report

    def verify(self) -> dict[str, Any]:
        """The verifier, in a process of its own."""
        topics = self.deployment.settings.topics
        report = self.folder / "report.json"
        command = [
            sys.executable, str(VERIFIER), "--bootstrap", self.cluster.kafka.bootstrap, "--uploads", topics.uploads,
            "--verdicts", *topics.verdicts, "--deadletters", topics.deadletters, "--report", str(report),
            "--log-to", str(self.folder / "answers.jsonl"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        self.note("verifier", status=done.returncode, said=done.stdout.strip().splitlines())
        assert done.returncode == 0, f"seed {self.seed}: {done.stdout}{done.stderr}; {self.folder}"
        found: dict[str, Any] = json.loads(report.read_text())
        return found

    def compare(self, thresholds: Mapping[str, float] = THRESHOLDS) -> None:
        """R2: every verdict is what the offline judge says over the same fingerprints."""
        answers = self.deployment.offline(rule_at(thresholds))
        verdicts, letters = self.deployment.verdicts(), self.deployment.dead_letters()
        wrong = [w for v in verdicts if v.trace and (w := disagreement(answers[v.trace.source.key], v))]
        wrong += [f"{d.source.key}: {d.reason}" for d in letters if answers[d.source.key].reason != d.reason]
        assert not wrong, f"seed {self.seed}: {len(wrong)} answers differ from the offline judge's: {wrong[:5]}"

    def tails(self) -> str:
        """The last words of the workers."""
        return json.dumps({w.log.name: w.log.read_text()[-800:] for w in self.deployment.workers}, indent=1)

"""One round: a deployment under load, faults that must hit it, a healing, and what an independent verifier says."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

from models.calibration import Calibration
from stream.config import Settings
from stream.decision import Rule
from tests.fault.answers import Answers
from tests.fault.cluster import Cluster
from tests.fault.load import Load, Shape
from tests.support.deployment import ROOT, Worker, until
from tests.support.offline import disagreement

LOGS = Path(os.environ.get("FAULT_LOGS", ROOT / "build" / "fault"))
VERIFIER = Path(__file__).with_name("verifier.py")
READY_S = 120.0
HIT_S = 60.0
FELT_S = 30.0
# An answer later than this after its upload is late, faults and their healing included.
LATE_S = 300.0
# Uploads a second that a deployment must manage on these two cores, servers and a busy machine included.
SLOWEST_RATE = 15.0
# Per stage the metric that says that this worker has something in its hands.
IN_HAND = {
    "encode": "dejaview_in_flight_uploads",
    "decide": 'dejaview_consumer_lag_records{stage="decide"}',
    "index": "dejaview_index_progress_lag_records",
}


TAKEN_OVER = re.compile(r"assigned \w+ partitions \[\d")


def stage_of(worker: str) -> str:
    """A worker's stage, from its name."""
    return worker.partition("-")[0]


def seed_of_this_run() -> int:
    """`FAULT_SEED`: a number, or `random`; a stated one if not set, so that CI repeats itself."""
    given = os.environ.get("FAULT_SEED", "20261121")
    return random.SystemRandom().randrange(1 << 31) if given == "random" else int(given)


# Drawn pictures are nearer to each other than photographs: with these about two thirds of them are unique.
THRESHOLDS = {"duplicate": 0.35, "review": 0.30}


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
        self.load = Load(self.deployment, self.answers, shape, seed, self.note)
        self._begun = time.monotonic()
        self.note("round", seed=seed, shape=str(shape), topics=self.deployment.settings.topics.uploads)

    def __enter__(self) -> Self:
        self.answers.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.load.close()
        self.deployment.close()
        self.answers.close()
        for worker in self.deployment.workers:
            (self.folder / worker.log.name).write_bytes(worker.log.read_bytes())
        self._log.close()

    @property
    def sent(self) -> int:
        """Uploads that are on the broker."""
        return self.load.sent

    @sent.setter
    def sent(self, count: int) -> None:
        self.load.sent = count

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

    # -- answers

    def wait_answered(self, share: float, timeout_s: float = 240.0) -> None:
        """Until this share of all uploads has an answer."""
        wanted = int(share * self.shape.uploads)
        until(
            lambda: self.answers.count >= wanted, timeout_s, lambda: f"{self.answers.count} of {wanted}; {self.tails()}"
        )

    # -- faults

    def hit(self, *names: str) -> None:
        """Wait until every named worker (any, if none is named) has work in hand and uploads are unanswered. A fault
        comes right after. Fails when that does not come: the round would prove nothing.
        """
        found: dict[str, float] = {}

        def in_hand() -> bool:
            found.update((name, self.in_hand(name)) for name in names or self.workers)
            return (all if names else any)(found.values()) and self.sent > self.answers.count

        until(in_hand, HIT_S, lambda: f"no hit: in hand {found}, {self.answers.count} of {self.sent} answered")
        self.note("hit", sent=self.sent, answered=self.answers.count, in_hand=found)

    def in_hand(self, name: str) -> float:
        """What this worker has yet to do."""
        return self.workers[name].metrics().get(IN_HAND[stage_of(name)], 0)

    def takeovers(self, name: str) -> int:
        """How often this worker was given partitions."""
        return len(TAKEN_OVER.findall(self.workers[name].log.read_text()))

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
        """Everything is answered within the bound and what the rest of the load takes at a slow rate."""
        healed = time.monotonic()
        to_come = 0 if self.load.over else max(0, self.shape.uploads - self.sent)
        self.note("healed", sent=self.sent, answered=self.answers.count)

        def done() -> bool:
            return self.load.over and self.answers.count >= self.sent

        until(
            done,
            healed_within_s + to_come / SLOWEST_RATE,
            lambda: f"{self.answers.count} of {self.sent}; {self.tails()}",
        )
        self.note("finished", answered=self.answers.count, seconds=round(time.monotonic() - healed, 1))

    def finish(
        self, healed_within_s: float, thresholds: Mapping[str, float] = THRESHOLDS, late_s: float = LATE_S
    ) -> dict[str, Any]:
        """Everything is answered within the bound; the verifier finds nothing; verdicts are the offline judge's."""
        self.wait_all(healed_within_s)
        report = self.verify(late_s)
        self.compare(thresholds)
        self.note("proved", **{name: report[name] for name in ("uploads", "verdicts", "dead_letters", "kinds")})
        return report

    def verify(self, late_s: float = LATE_S) -> dict[str, Any]:
        """The verifier, in a process of its own. It must have seen all that was sent."""
        topics = self.deployment.settings.topics
        report = self.folder / "report.json"
        command = [
            sys.executable, str(VERIFIER), "--bootstrap", self.cluster.kafka.bootstrap, "--uploads", topics.uploads,
            "--verdicts", *topics.verdicts, "--deadletters", topics.deadletters, "--report", str(report),
            "--log-to", str(self.folder / "answers.jsonl"), "--late-s", str(late_s),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        self.note("verifier", status=done.returncode, said=done.stdout.strip().splitlines())
        assert done.returncode == 0, f"seed {self.seed}: {done.stdout}{done.stderr}; {self.folder}"
        found: dict[str, Any] = json.loads(report.read_text())
        assert found["uploads"] == self.deployment.arrived() > 0
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

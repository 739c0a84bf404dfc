"""Wiring: settings to stages, stages to threads, signals to a drain."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from models.model import load_model
from stream.blas import one_blas_thread
from stream.commit import Committer
from stream.config import Settings
from stream.decide import DecideStage
from stream.decision import Rule
from stream.encode import EncodeStage
from stream.errors import (
    DejaviewError,
    PartitionCountChanged,
    SettingError,
    StageStopped,
    TopicMissing,
    TransientError,
)
from stream.health import Health, HealthServer
from stream.incoming import Intake
from stream.index import IndexStage
from stream.indexes import Indexes, ToldToStopError
from stream.indexview import IndexView
from stream.kafka import Admin, GroupConsumer, LogProducer, LogReader, Topic
from stream.lookup import Lookup
from stream.metrics import Metrics
from stream.neighbours.protocol import Index
from stream.ownership import Ownership
from stream.prepare import Preparer
from stream.runtime import open_encoder
from stream.stop import Stop
from stream.survey import survey
from stream.topics import check_topics

log = logging.getLogger("dejaview")

TOPIC_CHECK_S = 10.0
# The links of all partitions are read in one query, which is answered up to 16,384 rows.
PARTITIONS_MAX = 96
# A batch of DECIDE makes tens of thousands of objects that live as long as it does: with Python's own thresholds
# (700, 10, 10 in 3.11) looking through them took a sixth of the time that judging takes.
COLLECT_AFTER = (20_000, 20, 100)


class Stage(StrEnum):
    ENCODE = "encode"
    DECIDE = "decide"
    INDEX = "index"


ALL_STAGES = tuple(Stage)


class Service:
    """The chosen stages of one deployment in this process."""

    def __init__(self, settings: Settings, stages: Collection[Stage], *, embedded: bool = False) -> None:
        """Check what can be checked before anything runs.

        Args:
            embedded: Kafka is librdkafka's mock cluster.

        Raises:
            SettingError, TopicMissing, NotPermitted, BrokerUnavailable, ParityFailed: with what to do.
        """
        if embedded and settings.delivery != "at_least_once":
            raise SettingError("delivery exactly_once needs a real broker; the embedded one takes at_least_once only")
        self.settings = settings
        self.stages = tuple(stages)
        self.metrics = Metrics()
        self.health = Health(settings.health.loop_stall_s)
        self.model = load_model(settings.model.weights)
        self.stop = Stop()
        self.failure: BaseException | None = None
        self._embedded = embedded
        self._admin = Admin(settings, embedded=embedded)
        self._topics = self._describe_topics()
        needing = [stage for stage in self.stages if stage is not Stage.ENCODE]
        self._indexes = Indexes(settings.index, self.model.model_id, needing)
        self._threads: list[threading.Thread] = []
        self._server: HealthServer | None = None

    def start(self) -> int:
        """Start the stages; returns the port of /livez, /readyz and /metrics. This process multiplies in one thread."""
        one_blas_thread()
        for stage in self.stages:
            self.health.unready(f"{stage} start", "starting")
            # The loop takes this back once it owns and has opened partitions.
            self.health.unready(f"{stage} partitions", "none assigned yet")
            self.health.beat(stage)
        if Stage.ENCODE not in self.stages:
            self.metrics.info.labels(package_version(), self.model.model_id, "none").set(1)
        self._server = HealthServer(self.settings.health, self.health, self.metrics)
        builders: dict[Stage, Callable[[], Callable[[Stop], None]]] = {
            Stage.ENCODE: self._encode,
            Stage.DECIDE: self._decide,
            Stage.INDEX: self._index_stage,
        }
        for stage in self.stages:
            thread = threading.Thread(target=self._run_stage, args=(stage, builders[stage]), name=stage)
            thread.start()
            self._threads.append(thread)
        # A daemon: a broker that hangs must hold up neither a signal nor the end.
        threading.Thread(target=self._watch_topics, name="topics", daemon=True).start()
        if not self._embedded:
            index = self._indexes.of(Stage.INDEX)
            told = (self.metrics, self.settings.topics, self.stages, self._admin, index, self.stop)
            threading.Thread(target=survey, args=told, name="survey", daemon=True).start()
        return self._server.port

    def wait(self) -> None:
        """Until told to stop, or until a stage fails."""
        while not self.stop.wait(0.2):
            """A signal handler needs the main thread to wake up now and then."""

    def close(self) -> bool:
        """Stop and drain; False when a stage is still not done after `drain_s`."""
        self.stop.set()
        deadline = time.monotonic() + self.settings.drain_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        if alive:
            log.error("%s did not end within drain_s (%g s)", ", ".join(alive), self.settings.drain_s)
        if self._server is not None:
            self._server.close()
        if not alive:
            self._indexes.close()
        return not alive

    def _run_stage(self, stage: Stage, build: Callable[[], Callable[[Stop], None]]) -> None:
        try:
            run = build()
            # What a start made stays: a full collection would go through it for 60 ms, again and again.
            gc.freeze()
            if stage is Stage.DECIDE:
                gc.set_threshold(*COLLECT_AFTER)
            self.health.ready(f"{stage} start")
            log.info("%s runs", stage)
            run(self.stop)
        except ToldToStopError:
            log.info("%s was told to stop before the index was there", stage)
        except BaseException as error:
            self.failure = self.failure or error
            self.health.unready(stage, str(error))
            if not isinstance(error, DejaviewError):
                log.exception("%s failed", stage)
        finally:
            self.stop.set()

    # -- stages

    def _encode(self) -> Callable[[Stop], None]:
        settings = self.settings
        chosen = open_encoder(settings, self.metrics, self.health)
        self.metrics.info.labels(package_version(), self.model.model_id, chosen.encoder.runtime).set(1)
        uploads = self._topics[settings.topics.uploads]
        stage = EncodeStage(
            settings,
            lambda: LogProducer(settings),
            Preparer(settings.intake, uploads.topic_id, settings.tenants.allowed),
            chosen.encoder,
            self.model.background,
            self._topics[settings.topics.fingerprints].partitions,
            self.metrics,
            self.health,
        )
        consumer = GroupConsumer(settings, Stage.ENCODE, settings.topics.uploads, stage, uploads.topic_id)
        return lambda stop: stage.run(consumer, stop)

    def _decide(self) -> Callable[[Stop], None]:
        settings = self.settings
        fingerprints, ledger = self._topics[settings.topics.fingerprints], self._topics[settings.topics.ledger]
        index = self._ready_index(Stage.DECIDE)
        view = IndexView(index, ledger.topic_id, ledger.partitions, settings.decide.pin_age_s)
        reader = LogReader(settings, settings.topics.ledger)
        # Apart from the reader of restores: a repeat may be read while a partition is being restored.
        repeats = LogReader(settings, settings.topics.ledger)
        ownership = Ownership(settings.decide, view, reader, self.rule_of)
        consumer = GroupConsumer(settings, Stage.DECIDE, settings.topics.fingerprints, ownership, fingerprints.topic_id)
        ownership.use(consumer)
        intake = Intake(fingerprints.topic_id, fingerprints.partitions, self.model.model_id, settings.tenants.allowed)

        def make_committer() -> Committer:
            exactly_once = settings.delivery == "exactly_once"
            producer = LogProducer(settings, transactional_id(settings) if exactly_once else None)
            return Committer(settings.topics, settings.delivery, producer, consumer)

        lookup = Lookup(index, repeats, ownership.judge_of, settings.kafka.request_timeout_s)
        stage = DecideStage(
            settings, consumer, make_committer, view, lookup, ownership, intake, self.metrics, self.health
        )
        return stage.run

    def _index_stage(self) -> Callable[[Stop], None]:
        settings = self.settings
        ledger = self._topics[settings.topics.ledger]
        stage = IndexStage(
            settings,
            self._ready_index(Stage.INDEX),
            LogReader(settings, settings.topics.ledger),
            ledger.topic_id,
            ledger.partitions,
            self.metrics,
            self.health,
        )
        consumer = GroupConsumer(settings, Stage.INDEX, settings.topics.ledger, stage, ledger.topic_id)
        return lambda stop: stage.run(consumer, stop)

    def rule_of(self, tenant: str) -> Rule:
        """A tenant's thresholds, or the model's."""
        own = self.settings.tenants.thresholds.get(tenant)
        calibration = self.model.calibration
        return Rule(
            duplicate_threshold=own.duplicate if own else calibration.duplicate_threshold,
            review_threshold=own.review if own else calibration.review_threshold,
            neighbours_max=self.settings.index.neighbours_max,
            calibration=calibration,
        )

    def _ready_index(self, stage: Stage) -> Index:
        return self._indexes.ready(stage, self.stop, self.metrics, self.health)

    # -- topics

    def _describe_topics(self) -> dict[str, Topic]:
        names = self.settings.topics
        needed = [names.uploads, names.fingerprints, names.ledger, *names.verdicts, names.deadletters]
        topics = self._admin.topics(needed)
        fingerprints, ledger = topics[names.fingerprints].partitions, topics[names.ledger].partitions
        if fingerprints != ledger:
            raise PartitionCountChanged(
                f"{names.fingerprints} has {fingerprints} partitions and {names.ledger} has {ledger}; a tenant's "
                "fingerprints and ledger share a partition number, so create both with the same count"
            )
        if fingerprints > PARTITIONS_MAX:
            raise SettingError(
                f"{names.fingerprints} has {fingerprints} partitions, at most {PARTITIONS_MAX} are read at once"
            )
        return topics

    def _watch_topics(self) -> None:
        while not self.stop.wait(TOPIC_CHECK_S):
            self._check_topics()

    def _check_topics(self) -> None:
        """A topic that is not the one the stages began with stops them."""
        topics = self.settings.topics
        try:
            check_topics(self._topics, self._admin.topics, topics.uploads, (topics.fingerprints, topics.ledger))
        except (TransientError, TopicMissing) as error:
            # A topic that one answer does not name says nothing.
            log.warning("topics were not checked: %s", error)
        except StageStopped as error:
            self.failure = error
            self.stop.set()


def transactional_id(settings: Settings) -> str:
    """Stable per instance: a worker that comes back fences what it left behind."""
    instance = settings.instance_id or f"{socket.gethostname()}-{os.getpid()}"
    return f"{settings.kafka.group_prefix}-decide-{instance}"


def package_version() -> str:
    try:
        return version("dejaview")
    except PackageNotFoundError:
        return "unknown"


def parse_stages(names: Sequence[str]) -> tuple[Stage, ...]:
    """`--stage` values; all stages when there are none."""
    return tuple(Stage(name) for name in names) or ALL_STAGES

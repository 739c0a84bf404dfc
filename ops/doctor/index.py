"""Milvus: does it write and find, and is the collection this deployment's?"""

from __future__ import annotations

import time

from ops.doctor.broker import BROKER, MORE_RIGHTS, BrokerChecks
from ops.doctor.chain import PROGRESS, judge_progress
from ops.doctor.clock import INDEX_CLOCK, Stamp, judge_clock
from ops.doctor.model import WEIGHTS, ModelChecks
from ops.doctor.report import Check, Finding, State, broken, not_checked, ok, or_ok, warning
from ops.doctor.setup import INDEX_FILES
from schemas.events import EMBEDDING_SIZE
from stream.config import IndexSettings
from stream.errors import DejaviewError, NotPermitted
from stream.neighbours.milvus.collection import describe as wanted_description
from stream.neighbours.milvus.probe import METRIC, Canary, CollectionFacts, MilvusProbe
from stream.neighbours.protocol import STRONG

INDEX, CANARY, COLLECTION = "index", "index canary", "collection"
REBUILD = "correct the setting, or name another index.collection and let INDEX rebuild it from the ledger"


class IndexChecks:
    """Needs the model's id for the collection's name, and the ledger for the progress."""

    def __init__(self, settings: IndexSettings, model: ModelChecks, kafka: BrokerChecks) -> None:
        self._settings = settings
        self._model = model
        self._kafka = kafka
        self._probe: MilvusProbe | None = None
        self._canary: Canary | None = None
        self._collection: CollectionFacts | None = None

    def checks(self) -> list[Check]:
        return [
            Check(
                INDEX,
                self._reach,
                (INDEX_FILES, WEIGHTS),
                "start Milvus, or correct index.uri, index.token and index.server_pem",
            ),
            Check(
                CANARY,
                self._write_and_find,
                (INDEX,),
                "look at Milvus's log, and run doctor again",
            ),
            Check(INDEX_CLOCK, self._clock, (CANARY,)),
            Check(COLLECTION, self._look_at_collection, (INDEX,), REBUILD),
            Check(PROGRESS, self._progress, (COLLECTION, BROKER), "look at Milvus's log, and run doctor again"),
        ]

    def close(self) -> None:
        if self._probe is not None:
            self._probe.close()

    @property
    def _milvus(self) -> MilvusProbe:
        if self._probe is None:
            self._probe = MilvusProbe(self._settings, self._model.model_id)
        return self._probe

    def _reach(self) -> list[Finding]:
        return [ok(INDEX, f"Milvus {self._milvus.server_version()} at {self._settings.uri}")]

    def _write_and_find(self) -> list[Finding]:
        try:
            left = self._milvus.drop_left_over(time.time())
            self._canary = self._milvus.canary()
        except NotPermitted as error:
            return [not_checked(CANARY, str(error), MORE_RIGHTS)]
        dropped = f"; dropped {len(left)} left by a doctor that was killed" if left else ""
        what = f"a row and a link written and found, {self._settings.index_type}, {self._canary.took_s:.1f} s"
        return [ok(CANARY, f"{what}{dropped}")]

    def _clock(self) -> list[Finding]:
        canary = self._canary
        if canary is None:
            return [not_checked(INDEX_CLOCK, f"it needs {CANARY}")]
        if self._settings.embedded:
            return [not_checked(INDEX_CLOCK, "Milvus Lite stamps by this machine's clock")]
        stamp = Stamp(canary.acknowledged_ms, canary.asked_ms, canary.answered_ms)
        return [judge_clock(INDEX_CLOCK, "Milvus", stamp)]

    def _look_at_collection(self) -> list[Finding]:
        self._collection = self._milvus.describe()
        findings = judge_collection(self._settings, self._model.model_id, self._collection)
        wrong = any(finding.state is State.BROKEN for finding in findings)
        if self._collection is not None and self._collection.index_type and not wrong:
            # The rest: every field, and rows that expire.
            self._milvus.check()
        return findings

    def _progress(self) -> list[Finding]:
        ledger = self._kafka.settings.topics.ledger
        if ledger not in self._kafka.counts:
            return [not_checked(PROGRESS, f"there is no {ledger}")]
        collection = self._collection
        if collection is not None and not collection.loaded:
            return [not_checked(PROGRESS, f"collection {collection.name} is not loaded")]
        try:
            topic_id = self._kafka.admin.topics([ledger])[ledger].topic_id
        except DejaviewError as error:
            return [not_checked(PROGRESS, f"the ledger's topic id is not known: {error}")]
        links = self._milvus.links(None, None, STRONG) if collection is not None else []
        # After the links: INDEX goes on meanwhile, and must not seem to be ahead of the ledger.
        ends = self._kafka.admin.ends(ledger, range(self._kafka.counts[ledger]))
        return judge_progress(links, topic_id, ends)


def judge_collection(settings: IndexSettings, model_id: str, found: CollectionFacts | None) -> list[Finding]:
    """The collection beside the settings. Pure."""
    if found is None:
        return [
            warning(
                COLLECTION, "not there yet", "`dejaview run --stage index` makes it at its first start, from the ledger"
            )
        ]
    wanted: dict[str, tuple[object, object]] = {
        "dimension": (EMBEDDING_SIZE, found.dimension),
        "description": (wanted_description(model_id), found.description),
    }
    if found.index_type:
        wanted |= {"metric": (METRIC, found.metric), "index.index_type": (settings.index_type, found.index_type)}
    findings = [
        broken(COLLECTION, f"{found.name}: {what} is {theirs}, expected {ours}", REBUILD)
        for what, (ours, theirs) in wanted.items()
        if ours != theirs
    ]
    return or_ok([*findings, *_unfinished(found)], COLLECTION, f"{found.name}: {found.index_type}, {found.metric}")


def _unfinished(found: CollectionFacts) -> list[Finding]:
    findings = []
    if not found.index_type:
        findings.append(
            warning(
                COLLECTION, f"{found.name} has no vector index", "`dejaview run --stage index` makes it at its start"
            )
        )
    if not found.loaded:
        findings.append(
            warning(COLLECTION, f"{found.name} is not loaded: nothing can be searched", "`dejaview run` loads it")
        )
    if found.consistency != "Strong":
        findings.append(
            warning(
                COLLECTION,
                f"{found.name}: consistency level {found.consistency}, not Strong; dejaview names its own with every "
                "call, other readers of the collection do not",
                "nothing, unless others read it",
            )
        )
    return findings

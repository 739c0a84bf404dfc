"""Judging a batch in log order. Pure: everything it needs was read before it starts.

Twins inside one batch meet here: the batch was searched ahead in the index, and is then judged
serially against the window and against the representatives of the batch itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.events import (
    DeadLetter,
    Fingerprint,
    FingerprintFailure,
    LedgerEntry,
    Reason,
    Representative,
    Trace,
    Vector,
    Verdict,
    VerdictKind,
)
from stream.decision import Item, Rule, judge
from stream.memory import Memory, source_key, upload_key
from stream.neighbours.protocol import Found, Hit
from stream.window import Window

# In-batch representatives come after everything that is committed.
_IN_BATCH = 1 << 62


@dataclass(frozen=True, slots=True)
class Work:
    """One record of the fingerprints topic, parsed. `item`: what is to be judged of a fingerprint."""

    partition: int
    offset: int
    record: Fingerprint | FingerprintFailure
    item: Item | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        item = Item.of(self.record) if isinstance(self.record, Fingerprint) else None
        object.__setattr__(self, "item", item)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What was read for a batch before judging it: index hits by (partition, offset), of each view; index rows by
    row id; ledger entries by (partition, ledger offset). `pins_hold`: after the searches the index still had every
    link that they relied on."""

    hits: Mapping[tuple[int, int], Sequence[Sequence[Hit]]] = field(default_factory=dict)
    rows: Mapping[str, Found] = field(default_factory=dict)
    entries: Mapping[tuple[int, int], LedgerEntry] = field(default_factory=dict)
    pins_hold: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided of one record; `entry` is None for an encoder's repeat, which is dropped."""

    work: Work
    entry: LedgerEntry | None
    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge of one partition: its window, its memory and the tenants' rules."""

    window: Window
    memory: Memory
    rule_of: Callable[[str], Rule]

    def needs_search(self, work: Work) -> bool:
        """Whether the index must be asked: not for failures and what the memory answers."""
        record = work.record
        if isinstance(record, FingerprintFailure) or self.memory.knows_source(record.source):
            return False
        return self.memory.upload(record.tenant, record.upload_id) is None

    def repeated_entry(self, work: Work) -> int | None:
        """The ledger offset of the entry that a sender's repeat of this record needs."""
        record = work.record
        if isinstance(record, FingerprintFailure) or self.memory.knows_source(record.source):
            return None
        known = self.memory.upload(record.tenant, record.upload_id)
        return known.offset if known is not None and known.sha256 == record.sha256 else None

    def judge(self, works: Sequence[Work], knowledge: Knowledge) -> list[Outcome]:
        """Decide works of one partition, in log order."""
        session = _Session(self, knowledge, works)
        return [session.decide(work) for work in works]


def stacked(items: Sequence[Item]) -> tuple[Vector, list[range]]:
    """The embeddings of all views, float32 [V, 256], and which of them are each item's."""
    vectors: list[Vector] = []
    places = []
    for item in items:
        own = [item.embedding, *(panel.embedding for panel in item.panels)]
        places.append(range(len(vectors), len(vectors) + len(own)))
        vectors += own
    return np.stack(vectors), places


class _Twins:
    """The batch's own pictures of one tenant, and which of them became representatives."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._column = {id(item): n for n, item in enumerate(items)}
        wholes: Vector = np.stack([item.embedding for item in items])
        views, self._views = stacked(items)
        self._similarity = views @ wholes.T
        # The representatives, in log order: their columns, themselves, and one by its row id.
        self._columns: list[int] = []
        self._hits: list[Hit] = []
        self._ids: dict[str, Hit] = {}

    def near(self, item: Item, rows_max: int) -> list[list[Hit]]:
        """Of each view the `rows_max` most similar representatives, and the one with the item's own row id."""
        found = []
        own = self._ids.get(item.row_id)
        for view in self._views[self._column[id(item)]]:
            similarity = self._similarity[view, self._columns]
            nearest = np.argsort(-similarity, kind="stable")[:rows_max]
            hits = [self._hits[n].at(float(similarity[n])) for n in nearest]
            found.append([*hits, own] if own is not None else hits)
        return found

    def add(self, item: Item, verdict: VerdictKind, order: int) -> None:
        hit = item.as_hit(verdict, _IN_BATCH + order)
        self._columns.append(self._column[id(item)])
        self._hits.append(hit)
        self._ids.setdefault(hit.row_id, hit)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """An upload id that was judged before: its bytes, and its verdict where that was read."""

    sha256: str
    verdict: Verdict | None


class _Session:
    """One batch in judgement: what it has decided so far stands beside what is committed."""

    def __init__(self, judge: Judge, knowledge: Knowledge, works: Sequence[Work]) -> None:
        self._judge = judge
        self._knowledge = knowledge
        self._sources: set[bytes] = set()
        self._uploads: dict[bytes, Verdict] = {}
        self._items = {work.offset: work.item for work in works if work.item is not None}
        self._window_hits = self._search_window()
        by_tenant: dict[str, list[Item]] = defaultdict(list)
        for item in self._items.values():
            by_tenant[item.tenant].append(item)
        self._twins = {tenant: _Twins(items) for tenant, items in by_tenant.items()}

    def decide(self, work: Work) -> Outcome:
        record = work.record
        key = source_key(record.source)
        if key in self._sources or self._judge.memory.knows_source(record.source):
            return Outcome(work, None)
        self._sources.add(key)
        if isinstance(record, FingerprintFailure):
            return Outcome(work, dead_letter_entry(record, record.reason, record.detail))
        return self._known(work, record) or self._new(work, record)

    def _known(self, work: Work, record: Fingerprint) -> Outcome | None:
        """The sender's repeat, or an id used for other bytes."""
        earlier = self._earlier(work, record)
        if earlier is None:
            return None
        if earlier.sha256 != record.sha256:
            detail = f"upload id {record.upload_id!r} was judged before with other bytes (SHA-256 {earlier.sha256})"
            return Outcome(work, dead_letter_entry(record, Reason.ID_CONFLICT, detail))
        if earlier.verdict is None:
            raise ValueError(f"no verdict was read for the repeat of {record.tenant}/{record.upload_id}")
        verdict = earlier.verdict.model_copy(update={"repeat": True, "trace": _trace(record)})
        return Outcome(work, self._remember(_entry(record, verdict)))

    def _earlier(self, work: Work, record: Fingerprint) -> _Earlier | None:
        in_batch = self._uploads.get(upload_key(record.tenant, record.upload_id))
        if in_batch is not None:
            return _Earlier(in_batch.sha256, in_batch)
        known = self._judge.memory.upload(record.tenant, record.upload_id)
        if known is not None:
            entry = self._knowledge.entries.get((work.partition, known.offset))
            return _Earlier(known.sha256, entry.verdict if entry is not None else None)
        row = self._knowledge.rows.get(self._items[work.offset].row_id)
        if row is not None and row.hit.upload_id == record.upload_id:
            return _Earlier(row.hit.sha256, LedgerEntry.model_validate_json(row.entry).verdict)
        return None

    def _new(self, work: Work, record: Fingerprint) -> Outcome:
        item = self._items[work.offset]
        rule = self._judge.rule_of(item.tenant)
        twins = self._twins[item.tenant]
        row = self._knowledge.rows.get(item.row_id)
        in_index = self._knowledge.hits.get((work.partition, work.offset)) or [[] for _ in item.views]
        in_window, in_batch = self._window_hits[work.offset], twins.near(item, rule.neighbours_max)
        of_whole, *of_panels = [[*a, *b, *c] for a, b, c in zip(in_index, in_window, in_batch, strict=True)]
        if row is not None:
            of_whole.append(row.hit)
        verdict = judge(item, of_whole, rule, of_panels).model_copy(update={"trace": _trace(record)})
        if verdict.verdict is VerdictKind.DUPLICATE:
            return Outcome(work, self._remember(_entry(record, verdict)))
        twins.add(item, verdict.verdict, work.offset)
        representative = Representative(
            row_id=item.row_id,
            embedding=record.embedding,
            bias=item.bias,
            pdq=item.pdq,
            pdq_quality=item.pdq_quality,
        )
        return Outcome(work, self._remember(_entry(record, verdict, representative=representative)), item)

    def _remember(self, entry: LedgerEntry) -> LedgerEntry:
        verdict = entry.verdict
        if verdict is not None:
            self._uploads.setdefault(upload_key(verdict.tenant, verdict.upload_id), verdict)
        return entry

    def _search_window(self) -> dict[int, list[list[Hit]]]:
        offsets: dict[str, list[int]] = defaultdict(list)
        for offset, item in self._items.items():
            offsets[item.tenant].append(offset)
        found: dict[int, list[list[Hit]]] = {}
        for tenant, group in offsets.items():
            items = [self._items[offset] for offset in group]
            vectors, places = stacked(items)
            rows_max = self._judge.rule_of(tenant).neighbours_max
            row_ids = [item.row_id for item, views in zip(items, places, strict=True) for _ in views]
            near = self._judge.window.nearest(tenant, vectors, row_ids, rows_max)
            found.update({offset: near[own.start : own.stop] for offset, own in zip(group, places, strict=True)})
        return found


def dead_letter_entry(record: Fingerprint | FingerprintFailure, reason: Reason, detail: str) -> LedgerEntry:
    """The ledger entry of an upload without a verdict, with the command that sends its record again."""
    source = record.source
    letter = DeadLetter(
        reason=reason,
        detail=detail,
        tenant=record.tenant,
        upload_id=record.upload_id,
        headers=record.headers if isinstance(record, FingerprintFailure) else {},
        source=source,
        source_topic=record.source_topic,
        upload_timestamp_ms=record.upload_timestamp_ms,
        replay=f"dejaview replay {record.source_topic} {source.partition} {source.offset}",
    )
    return _entry(record, dead_letter=letter)


def _entry(
    record: Fingerprint | FingerprintFailure,
    verdict: Verdict | None = None,
    dead_letter: DeadLetter | None = None,
    representative: Representative | None = None,
) -> LedgerEntry:
    return LedgerEntry(
        source=record.source,
        source_topic=record.source_topic,
        upload_timestamp_ms=record.upload_timestamp_ms,
        event_time=record.event_time,
        traceparent=record.traceparent,
        verdict=verdict,
        dead_letter=dead_letter,
        representative=representative,
    )


def _trace(record: Fingerprint) -> Trace:
    return Trace(
        source=record.source,
        source_topic=record.source_topic,
        upload_timestamp_ms=record.upload_timestamp_ms,
        event_time=record.event_time,
        runtime=record.runtime,
        timings_s=record.timings_s,
    )

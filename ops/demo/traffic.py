"""Uploads out, answers in: what a platform around dejaview does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ops.demo.uploads import Upload
from schemas.cloudevents import DEAD_LETTER_TYPE, upload_headers
from schemas.events import DeadLetter, SourcePosition, UploadReference, Verdict
from stream.config import Settings
from stream.errors import StageStopped
from stream.kafka import GroupConsumer, Outgoing, Record

TENANT = "demo"
SOURCE = "dejaview-demo"
# The mock cluster keeps about 5 MB a partition: neither records nor what is unread may pile up.
IN_FLIGHT_MAX = 64
STALL_S = 60.0
_RECORDS_MAX = 256
_WAIT_S = 0.05

Answer = Verdict | DeadLetter
OnAnswer = Callable[[Upload, Answer, float], None]


class Producer(Protocol):
    def produce(self, records: Iterable[Outgoing]) -> None: ...

    def flush(self) -> None: ...


class Answers(Protocol):
    """Verdicts and dead letters as they come; each call waits a moment."""

    def take(self) -> Sequence[Answer]: ...


class AnswerLog:
    """The topics of verdicts and dead letters, from their beginning."""

    def __init__(self, settings: Settings) -> None:
        topics = (*settings.topics.verdicts, settings.topics.deadletters)
        self._logs = [_Log(settings, topic) for topic in topics]

    def open(self, check: Callable[[], None]) -> None:
        """Until all are assigned; `check` is called meanwhile and may raise."""
        while not all(log.opened for log in self._logs):
            check()
            for log in self._logs:
                log.read(_WAIT_S)

    def take(self) -> list[Answer]:
        answers: list[Answer] = []
        for number, log in enumerate(self._logs):
            answers.extend(answer_of(record) for record in log.read(0.0 if number else _WAIT_S))
        return answers

    def close(self) -> None:
        for log in self._logs:
            log.close()


class _Log:
    """One topic; implements `kafka.Assignment`."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.opened = False
        self._new: list[int] = []
        self._consumer = GroupConsumer(settings, f"demo-{topic}", topic, self)

    def assigned(self, partitions: Sequence[int]) -> None:
        self._new.extend(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Nothing is committed: the demo ends with its broker."""

    def lost(self, partitions: Sequence[int]) -> None:
        """As revoked."""

    def read(self, wait_s: float) -> list[Record]:
        records = self._consumer.poll(_RECORDS_MAX, wait_s, 0.0)
        while self._new:
            partition = self._new.pop()
            self._consumer.seek(partition, self._consumer.start_offset(partition, "earliest"))
            self._consumer.resume([partition])
            self.opened = True
        return records

    def close(self) -> None:
        self._consumer.close()


class Traffic:
    """Sends uploads, a bounded number at a time, and matches the answers by the record's position."""

    def __init__(
        self,
        topic: str,
        producer: Producer,
        answers: Answers,
        on_answer: OnAnswer,
        check: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`check` is called every turn and may raise; `clock` counts seconds as Kafka's timestamps do."""
        self._topic = topic
        self._producer = producer
        self._answers = answers
        self._on_answer = on_answer
        self._check = check
        self._clock = clock
        self._pending: dict[tuple[int, int], Upload] = {}

    def run(self, uploads: Iterable[Upload]) -> list[Upload]:
        """Send all and wait for their answers; returns those that got none within `STALL_S` of the last answer.

        Raises:
            StageStopped: through `check`, when a stage has ended.
        """
        waiting = deque(uploads)
        heard_s = self._clock()
        while waiting or self._pending:
            self._check()
            self._send([waiting.popleft() for _ in range(min(len(waiting), IN_FLIGHT_MAX - len(self._pending)))])
            if self._receive():
                heard_s = self._clock()
            elif self._clock() - heard_s > STALL_S:
                break
        lost = [*self._pending.values(), *waiting]
        self._pending.clear()
        return lost

    def _send(self, uploads: Sequence[Upload]) -> None:
        if not uploads:
            return
        records = [event_of(upload, self._topic) for upload in uploads]
        self._producer.produce(records)
        self._producer.flush()
        for upload, record in zip(uploads, records, strict=True):
            self._pending[record.partition, record.offset] = upload

    def _receive(self) -> bool:
        """At-least-once: an answer that was heard before is passed over."""
        heard = False
        for answer in self._answers.take():
            source, timestamp_ms = _origin(answer)
            upload = self._pending.pop((source.partition, source.offset), None)
            if upload is not None:
                heard = True
                self._on_answer(upload, answer, max(0.0, self._clock() - timestamp_ms / 1000))
        return heard


def event_of(upload: Upload, topic: str) -> Outgoing:
    """A CloudEvent that points to the picture's file."""
    reference = UploadReference(uri=f"file://{upload.file}", sha256=upload.sha256)
    headers = upload_headers(upload.upload_id, TENANT, "application/json", SOURCE)
    return Outgoing(topic, reference.model_dump_json().encode(), headers)


def answer_of(record: Record) -> Answer:
    kind = dict(record.headers).get("ce_type", b"").decode()
    if kind == DEAD_LETTER_TYPE:
        return DeadLetter.model_validate_json(record.value or b"")
    return Verdict.model_validate_json(record.value or b"")


def _origin(answer: Answer) -> tuple[SourcePosition, int]:
    if isinstance(answer, DeadLetter):
        return answer.source, answer.upload_timestamp_ms
    if answer.trace is None:
        raise StageStopped(f"the verdict on {answer.upload_id} carries no trace")
    return answer.trace.source, answer.trace.upload_timestamp_ms

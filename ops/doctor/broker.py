"""Kafka: the broker, its settings, transactions, topics and groups."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ops.cli.topics import planned
from ops.doctor import topics as judged
from ops.doctor.clock import BROKER_CLOCK, Stamp, judge_clock
from ops.doctor.groups import GroupFacts, check_name, judge_group
from ops.doctor.report import Check, Finding, broken, not_checked, ok, or_ok, warning
from ops.doctor.setup import KAFKA_FILES
from stream.config import Settings
from stream.errors import DejaviewError, NotPermitted
from stream.kafka import Admin, LogProducer

BROKER, BROKER_SETTINGS, TRANSACTIONS = "broker", "broker settings", "transactions"
# A worker needs no such right: without it a deployment is as well as with it.
MORE_RIGHTS = "nothing, or run doctor as a user with its rights (SECURITY.md)"
# Kafka writes here what a transactional producer's start changes, with the broker's own clock.
_TRANSACTION_LOG = "__transaction_state"
# Kafka's default: groups without members keep their offsets a week.
_OFFSETS_KEPT_MINUTES = 7 * 24 * 60


class BrokerChecks:
    """What later checks need is kept: `admin`, the topics that exist (`counts`)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counts: dict[str, int] = {}
        self._admin: Admin | None = None
        self._stamped: tuple[int, int] | None = None

    @property
    def admin(self) -> Admin:
        if self._admin is None:
            self._admin = Admin(self.settings)
        return self._admin

    def checks(self) -> list[Check]:
        on_broker = (BROKER,)
        return [
            Check(
                BROKER,
                self._broker,
                (KAFKA_FILES,),
                "start the broker, or correct kafka.bootstrap_servers and kafka.options",
            ),
            Check(BROKER_SETTINGS, self._settings, on_broker),
            Check(
                TRANSACTIONS,
                self._transactions,
                on_broker,
                "look at the broker's log and transaction.state.log.*; this principal needs Write on transactional ids "
                f"{self.settings.kafka.group_prefix}-decide-*",
            ),
            Check(BROKER_CLOCK, self._clock, (BROKER, TRANSACTIONS)),
            Check(judged.TOPICS, self._topics, on_broker),
            Check(judged.PARTITIONS, lambda: judged.judge_partitions(self.settings.topics, self.counts), on_broker),
            Check(judged.CONFIGS, self._configs, on_broker),
            Check(judged.COPIES, self._copies, on_broker),
            *(Check(check_name(stage), lambda stage=stage: self._group(stage), on_broker) for stage in self._reads),  # type: ignore[misc]
        ]

    def _broker(self) -> list[Finding]:
        # Asked first: of all requests this one says best that there is no broker.
        self.counts = self.admin.existing(list(planned(self.settings.topics)))
        return [ok(BROKER, f"{self.settings.kafka.bootstrap_servers}: {len(self.admin.brokers())} brokers")]

    def _settings(self) -> list[Finding]:
        try:
            configs = {broker: self.admin.broker_configs(broker) for broker in self.admin.brokers()}
        except DejaviewError as error:
            return [not_checked(BROKER_SETTINGS, str(error), MORE_RIGHTS)]
        return judge_broker_settings(self.settings, configs)

    def _transactions(self) -> list[Finding]:
        """A transactional producer starts with the transaction coordinator; no record is written."""
        if self.settings.delivery != "exactly_once":
            return [ok(TRANSACTIONS, "not needed for at_least_once")]
        # Below the prefix that deciders have a right to, and no name that a worker's instance would have.
        transactional_id = f"{self.settings.kafka.group_prefix}-decide-(doctor)"
        before_ms = _now_ms()
        producer = LogProducer(self.settings, transactional_id)
        self._stamped = (before_ms, _now_ms())
        producer.begin()
        producer.abort()
        return [ok(TRANSACTIONS, f"the coordinator takes transactional id {transactional_id}")]

    def _clock(self) -> list[Finding]:
        if self._stamped is None:
            return [not_checked(BROKER_CLOCK, "without transactions a broker stamps nothing that could be read")]
        try:
            count = self.admin.existing([_TRANSACTION_LOG]).get(_TRANSACTION_LOG, 0)
            newest_ms = self.admin.newest_timestamp_ms(_TRANSACTION_LOG, range(count))
        except DejaviewError as error:
            return [not_checked(BROKER_CLOCK, f"{_TRANSACTION_LOG} cannot be described: {error}", MORE_RIGHTS)]
        if newest_ms is None:
            return [not_checked(BROKER_CLOCK, f"{_TRANSACTION_LOG} shows no timestamp")]
        # Others' transactions may have stamped since: the stamp lies before now, not before our answer.
        return [judge_clock(BROKER_CLOCK, "Kafka", Stamp(newest_ms, self._stamped[0], _now_ms()))]

    def _topics(self) -> list[Finding]:
        return judged.judge_presence(self.settings.topics, self.counts)

    def _configs(self) -> list[Finding]:
        try:
            return judged.judge_configs(self.settings, self.admin.describe_configs(list(self.counts)))
        except NotPermitted as error:
            return [not_checked(judged.CONFIGS, str(error), MORE_RIGHTS)]

    def _copies(self) -> list[Finding]:
        names = list(self.counts)
        try:
            return judged.judge_copies(self.admin.copies(names), self.admin.describe_configs(names))
        except NotPermitted as error:
            return [not_checked(judged.COPIES, str(error), MORE_RIGHTS)]

    @property
    def _reads(self) -> dict[str, tuple[str, str]]:
        """Stage -> the topic it reads and the one that shows what it did."""
        topics = self.settings.topics
        return {
            "encode": (topics.uploads, topics.fingerprints),
            "decide": (topics.fingerprints, topics.ledger),
            "index": (topics.ledger, ""),
        }

    def _group(self, stage: str) -> list[Finding]:
        topic, written = self._reads[stage]
        if topic not in self.counts:
            return [not_checked(check_name(stage), f"there is no {topic}")]
        name = f"{self.settings.kafka.group_prefix}-{stage}"
        partitions = range(self.counts[topic])
        facts = GroupFacts(
            stage=stage,
            topic=topic,
            group=self.admin.group(name, topic, partitions),
            ends=self.admin.ends(topic, partitions),
            written=self.admin.ends(written, range(self.counts.get(written, 0))),
            first_start=self.settings.first_start if stage == "encode" else "earliest",
        )
        return judge_group(facts)


def judge_broker_settings(settings: Settings, configs: Mapping[int, Mapping[str, str]]) -> list[Finding]:
    """Brokers' settings against ours. What a broker does not say is not judged."""
    findings = []
    for broker, config in configs.items():
        findings += _timeouts(settings, f"broker {broker}", config)
        kept = _number(config, "offsets.retention.minutes")
        if kept is not None and kept < _OFFSETS_KEPT_MINUTES:
            findings.append(
                warning(
                    BROKER_SETTINGS,
                    f"broker {broker}: offsets.retention.minutes is {kept}: when all deciders are away longer, their "
                    "offsets expire and DECIDE refuses to start",
                    f"set offsets.retention.minutes to {_OFFSETS_KEPT_MINUTES} or more",
                )
            )
    return or_ok(findings, BROKER_SETTINGS, "timeouts and offset retention suit the settings")


def _timeouts(settings: Settings, broker: str, config: Mapping[str, str]) -> list[Finding]:
    kafka = settings.kafka
    findings = []
    most_ms = _number(config, "transaction.max.timeout.ms")
    exactly_once = settings.delivery == "exactly_once"
    if exactly_once and most_ms is not None and kafka.transaction_timeout_s * 1000 > most_ms:
        findings.append(
            broken(
                BROKER_SETTINGS,
                f"{broker}: transaction.max.timeout.ms is {most_ms}, kafka.transaction_timeout_s is "
                f"{kafka.transaction_timeout_s:g}: transactions are refused",
                f"lower kafka.transaction_timeout_s to {most_ms / 1000:g}, or raise the broker's",
            )
        )
    session_ms = kafka.session_timeout_s * 1000
    for option, outside in (("group.min.session.timeout.ms", -1), ("group.max.session.timeout.ms", 1)):
        limit_ms = _number(config, option)
        if limit_ms is not None and (session_ms - limit_ms) * outside > 0:
            findings.append(
                broken(
                    BROKER_SETTINGS,
                    f"{broker}: {option} is {limit_ms}, kafka.session_timeout_s is {kafka.session_timeout_s:g}: "
                    "workers cannot join their group",
                    f"set kafka.session_timeout_s to {limit_ms / 1000:g}, or change the broker's",
                )
            )
    return findings


def _number(config: Mapping[str, str], option: str) -> int | None:
    text = config.get(option, "")
    return int(text) if text.isdecimal() else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

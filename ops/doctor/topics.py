"""The topics as they should be. Pure: what the broker says in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ops.cli.topics import planned
from ops.doctor.report import Finding, broken, or_ok, warning
from stream.config import Settings, TopicSettings
from stream.kafka.admin import Copies
from stream.service import PARTITIONS_MAX

TOPICS, PARTITIONS, CONFIGS, COPIES = "topics", "partitions", "topic settings", "copies"

DAY_MS = 24 * 3600 * 1000
# What librdkafka puts into one request for a partition at most; a smaller limit refuses whole batches.
BATCH_BYTES = 1_000_000
REPLICAS_FOR_TWO_IN_SYNC = 3
_UNLIMITED = "-1"

Configs = Mapping[str, Mapping[str, str]]


def judge_presence(topics: TopicSettings, counts: Mapping[str, int]) -> list[Finding]:
    missing = [name for name in planned(topics) if name not in counts]
    findings = [broken(TOPICS, f"there is no {name}", "`dejaview topics create`") for name in missing]
    return or_ok(findings, TOPICS, f"all {len(counts)} are there")


def judge_partitions(topics: TopicSettings, counts: Mapping[str, int]) -> list[Finding]:
    """Only of topics that are there."""
    fingerprints, ledger = counts.get(topics.fingerprints), counts.get(topics.ledger)
    findings = []
    if fingerprints is not None and ledger is not None and fingerprints != ledger:
        findings.append(
            broken(
                PARTITIONS,
                f"{topics.fingerprints} has {fingerprints} partitions, {topics.ledger} has {ledger}; a tenant's "
                "fingerprints and ledger share a number",
                "delete the one that is still empty and create it again with topics.partitions set to the other's "
                "count; if neither is empty, see ARCHITECTURE.md, 'Changing the partition count'",
            )
        )
    most = max(fingerprints or 0, ledger or 0)
    if most > PARTITIONS_MAX:
        findings.append(
            broken(
                PARTITIONS,
                f"{most} partitions of fingerprints or ledger, at most {PARTITIONS_MAX} are read at once",
                "create both topics under new names with fewer, and a new index.collection",
            )
        )
    return or_ok(findings, PARTITIONS, f"{fingerprints} of fingerprints and of ledger")


def judge_configs(settings: Settings, configs: Configs) -> list[Finding]:
    """Retention, compaction and record size."""
    topics = settings.topics
    findings = [
        *_ledger(topics.ledger, configs),
        *_compaction(configs),
        *_retention(settings, configs),
        *_sizes(topics, configs),
    ]
    return or_ok(findings, CONFIGS, "retention, compaction and record sizes are as they should be")


def judge_copies(topics: Mapping[str, Sequence[Copies]], configs: Configs) -> list[Finding]:
    """Leaders, copies in sync, and what a lost broker would cost."""
    findings: list[Finding] = []
    single = []
    for name, partitions in topics.items():
        in_sync_min = _number(configs.get(name, {}).get("min.insync.replicas"), 1)
        replicas = min((part.replicas for part in partitions), default=0)
        findings += _unwritable(name, partitions, in_sync_min)
        if replicas == 1:
            single.append(name)
        elif in_sync_min > replicas:
            findings.append(
                broken(
                    COPIES,
                    f"{name}: min.insync.replicas is {in_sync_min}, of {replicas} copies: nothing can be written",
                    _alter(name, "min.insync.replicas", str(replicas - 1)),
                )
            )
        elif in_sync_min == replicas:
            findings.append(
                warning(
                    COPIES,
                    f"{name}: min.insync.replicas is the number of copies ({replicas}): one lost broker stops writing",
                    _alter(name, "min.insync.replicas", str(replicas - 1)),
                )
            )
        elif in_sync_min == 1 and replicas >= REPLICAS_FOR_TWO_IN_SYNC:
            findings.append(
                warning(
                    COPIES,
                    f"{name}: min.insync.replicas is 1: what one broker alone has acknowledged is lost with it",
                    _alter(name, "min.insync.replicas", "2"),
                )
            )
    if single:
        findings.append(
            warning(
                COPIES,
                f"one copy only of {', '.join(single)}: a lost broker takes the log, the ledger included, with it",
                "in production create topics with topics.replication_factor 3",
            )
        )
    return or_ok(findings, COPIES, "every partition has a leader and enough copies in sync")


def _unwritable(name: str, partitions: Sequence[Copies], in_sync_min: int) -> Iterator[Finding]:
    leaderless = [number for number, part in enumerate(partitions) if not part.has_leader]
    behind = [
        n for n, part in enumerate(partitions) if part.has_leader and part.in_sync < min(in_sync_min, part.replicas)
    ]
    if leaderless:
        yield broken(COPIES, f"{name}: no leader for partitions {_some(leaderless)}", "bring its brokers back")
    if behind:
        yield broken(
            COPIES,
            f"{name}: fewer copies in sync than min.insync.replicas ({in_sync_min}) in partitions {_some(behind)}: "
            "nothing can be written there",
            "bring the missing brokers back",
        )


def _ledger(name: str, configs: Configs) -> Iterator[Finding]:
    config = configs.get(name, {})
    for option in ("retention.ms", "retention.bytes"):
        if config.get(option, _UNLIMITED) != _UNLIMITED:
            yield broken(
                CONFIGS,
                f"{name}: {option} is {config[option]}; the ledger is the truth and must be kept without limit",
                _alter(name, option, _UNLIMITED),
            )


def _compaction(configs: Configs) -> Iterator[Finding]:
    for name, config in configs.items():
        if "compact" in config.get("cleanup.policy", "delete"):
            yield broken(
                CONFIGS,
                f"{name}: cleanup.policy is {config['cleanup.policy']}; compaction drops records of the same key, and "
                "refuses those without one",
                _alter(name, "cleanup.policy", "delete"),
            )


def _retention(settings: Settings, configs: Configs) -> Iterator[Finding]:
    topics = settings.topics
    for name, what in ((topics.uploads, "uploads"), (topics.fingerprints, "fingerprints")):
        config = configs.get(name, {})
        kept_ms = _number(config.get("retention.ms"), -1)
        if 0 <= kept_ms < DAY_MS:
            yield warning(
                CONFIGS,
                f"{name}: retention.ms is {kept_ms}, less than a day: workers that are away longer lose {what}",
                _alter(name, "retention.ms", str(7 * DAY_MS)),
            )
        if config.get("retention.bytes", _UNLIMITED) != _UNLIMITED:
            yield warning(
                CONFIGS,
                f"{name}: retention.bytes is {config['retention.bytes']}: a burst may push out {what} nobody has read",
                _alter(name, "retention.bytes", _UNLIMITED),
            )
    kept_ms = _number(configs.get(topics.uploads, {}).get("retention.ms"), -1)
    if 0 <= kept_ms <= settings.intake.fetch_retry_max_s * 1000:
        yield warning(
            CONFIGS,
            f"{topics.uploads}: retention.ms is {kept_ms}, and a store may be away for intake.fetch_retry_max_s "
            f"({settings.intake.fetch_retry_max_s:g} s): uploads expire while they wait for it",
            f"{_alter(topics.uploads, 'retention.ms', str(7 * DAY_MS))}, or lower intake.fetch_retry_max_s",
        )


def _sizes(topics: TopicSettings, configs: Configs) -> Iterator[Finding]:
    for name, config in configs.items():
        bytes_max = _number(config.get("max.message.bytes"), BATCH_BYTES)
        if name == topics.uploads:
            if bytes_max < topics.message_bytes_max:
                yield broken(
                    CONFIGS,
                    f"{name}: max.message.bytes is {bytes_max}, topics.message_bytes_max is "
                    f"{topics.message_bytes_max}: the broker refuses larger uploads",
                    _alter(name, "max.message.bytes", str(topics.message_bytes_max)),
                )
        elif bytes_max < BATCH_BYTES:
            yield warning(
                CONFIGS,
                f"{name}: max.message.bytes is {bytes_max}; batches have up to {BATCH_BYTES} bytes",
                _alter(name, "max.message.bytes", "1048588"),
            )


def _alter(topic: str, option: str, value: str) -> str:
    return f"kafka-configs --alter --topic {topic} --add-config {option}={value}"


def _number(text: str | None, missing: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        return missing


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")  # noqa: PLR2004

"""`dejaview topics`: create what is missing, and say where what is there differs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from ops.cli.display import cell, console
from ops.cli.settings import add_settings_options, load_settings
from stream.config import TopicSettings
from stream.kafka import Admin

FINGERPRINTS_RETENTION_MS = 7 * 24 * 3600 * 1000
REPLICAS_FOR_TWO_IN_SYNC = 3
SHOWN_CONFIG = ("retention.ms", "retention.bytes", "cleanup.policy", "max.message.bytes", "min.insync.replicas")
_UNLIMITED = "-1"


@dataclass(frozen=True, slots=True)
class State:
    """What the broker says of the topics that exist."""

    partitions: Mapping[str, int]
    configs: Mapping[str, Mapping[str, str]]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `topics`."""
    parser = subparsers.add_parser(
        "topics",
        help="create and describe the Kafka topics",
        description="create: makes the topics that are missing, changes none. describe: shows them; exits with 1 "
        "when one is missing.",
    )
    parser.add_argument("action", choices=("create", "describe"))
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Create or describe all topics.

    Raises:
        BrokerUnavailable, NotPermitted: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    admin = Admin(settings)
    # Asked first: of all requests this one says best that there is no broker.
    known = admin.existing(list(planned(settings.topics)))
    if args.action == "create":
        _create(admin, settings.topics, known)
    state = _state(admin, settings.topics)
    missing = [name for name in planned(settings.topics) if name not in state.partitions]
    if args.action == "describe":
        console().print(_table(settings.topics, state))
    for warning in differences(settings.topics, state):
        print(f"warning: {warning}", file=sys.stderr)
    if missing:
        print(f"missing: {', '.join(missing)}; `dejaview topics create` makes them", file=sys.stderr)
    return 1 if missing else 0


def planned(topics: TopicSettings) -> dict[str, dict[str, str]]:
    """Topic -> its configuration, in the order of the flow."""
    of_one_topic: dict[str, dict[str, str]] = {
        topics.uploads: {"max.message.bytes": str(topics.message_bytes_max)},
        topics.fingerprints: {"retention.ms": str(FINGERPRINTS_RETENTION_MS)},
        # The ledger is the truth: without its start the index cannot be rebuilt.
        topics.ledger: {"retention.ms": _UNLIMITED, "retention.bytes": _UNLIMITED, "cleanup.policy": "delete"},
        **{name: {} for name in topics.verdicts},
        topics.deadletters: {},
    }
    in_sync = {"min.insync.replicas": "2"} if topics.replication_factor >= REPLICAS_FOR_TWO_IN_SYNC else {}
    return {name: {**config, **in_sync} for name, config in of_one_topic.items()}


def differences(topics: TopicSettings, state: State) -> list[str]:
    """Where topics that exist are not as dejaview needs them, each with what to do."""
    found = []
    counts = state.partitions
    fingerprints, ledger = counts.get(topics.fingerprints), counts.get(topics.ledger)
    if fingerprints is not None and ledger is not None and fingerprints != ledger:
        found.append(
            f"{topics.fingerprints} has {fingerprints} partitions and {topics.ledger} has {ledger}; a tenant's "
            "fingerprints and ledger share a partition number, so `dejaview run` refuses to start. Delete one of them "
            "while it is empty and create it again, with topics.partitions set to the other's count"
        )
    found += [
        f"{name} has {counts[name]} partitions, topics.partitions says {topics.partitions}; it is left as it is"
        for name in planned(topics)
        if name in counts and counts[name] != topics.partitions
    ]
    return [*found, *_ledger_differences(topics.ledger, state), *_uploads_differences(topics, state)]


def _ledger_differences(name: str, state: State) -> list[str]:
    config = state.configs.get(name, {})
    found = [
        f"{name}: {option} is {config[option]}; the ledger is the truth and must be kept without limit: set it to -1 "
        f"(kafka-configs --alter --topic {name} --add-config {option}=-1)"
        for option in ("retention.ms", "retention.bytes")
        if config.get(option, _UNLIMITED) != _UNLIMITED
    ]
    policy = config.get("cleanup.policy", "delete")
    if policy != "delete":
        found.append(f"{name}: cleanup.policy is {policy}; compaction would drop ledger entries: set it to delete")
    return found


def _uploads_differences(topics: TopicSettings, state: State) -> list[str]:
    bytes_max = state.configs.get(topics.uploads, {}).get("max.message.bytes", "")
    if not bytes_max.isdecimal() or int(bytes_max) >= topics.message_bytes_max:
        return []
    wanted = f"topics.message_bytes_max says {topics.message_bytes_max}"
    return [f"{topics.uploads}: max.message.bytes is {bytes_max}, {wanted}; the broker refuses larger uploads"]


def _create(admin: Admin, topics: TopicSettings, known: Mapping[str, int]) -> None:
    plan = planned(topics)
    width = max(map(len, plan))
    for name, config in plan.items():
        # Another `topics create` may be at work: `create` has the last word.
        created = name not in known and admin.create(name, topics.partitions, topics.replication_factor, config)
        details = "".join(f", {option}={value}" for option, value in config.items())
        print(f"{name:{width}}  " + (f"created: {topics.partitions} partitions{details}" if created else "existed"))
    admin.partition_counts(list(plan))


def _state(admin: Admin, topics: TopicSettings) -> State:
    partitions = admin.existing(list(planned(topics)))
    return State(partitions, admin.describe_configs(list(partitions)))


def _table(topics: TopicSettings, state: State) -> Table:
    table = Table("topic", "partitions", *SHOWN_CONFIG, box=None, pad_edge=False)
    for name in planned(topics):
        config = state.configs.get(name, {})
        table.add_row(
            cell(name), cell(state.partitions.get(name, "missing")), *(cell(config.get(o, "")) for o in SHOWN_CONFIG)
        )
    return table

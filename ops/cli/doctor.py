"""`dejaview doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import SecretStr
from rich.table import Table

from ops.cli.display import MASK, cell, console, shown
from ops.cli.fields import setting_fields, value_of
from ops.cli.settings import add_settings_options, load_settings
from stream.config import Settings
from stream.errors import SettingError
from stream.secrets import is_secret_option, read_secret_file

if TYPE_CHECKING:
    from ops.doctor.report import Finding

STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red", "not checked": "dim"}
# A shorter secret would be masked in every second word, and protects nothing.
_MASKED_CHARS_MIN = 4


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="check everything dejaview depends on, and say what to fix",
        description="Checks settings, Kafka, Milvus, the model, the clocks and intake. Changes nothing: it starts a "
        "transaction of its own without a record, and writes into a Milvus collection of its own, which it drops. "
        "Exits with 1 when something is broken; warnings do not count.",
    )
    parser.add_argument("--json", action="store_true", help="the findings as a JSON array")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Examine and report; 1 when something is broken."""
    # Here: it imports pymilvus and confluent_kafka, and `--help` answers without.
    from ops.doctor.examination import examination  # noqa: PLC0415
    from ops.doctor.report import State, broken, not_checked, ok  # noqa: PLC0415

    secrets: list[str] = []
    try:
        loaded = load_settings(args.config, args.flags)
    except SettingError as error:
        findings = [
            broken("settings", str(error), "correct what is named; `dejaview config` shows where values come from"),
            not_checked("everything else", "it needs settings"),
        ]
    else:
        secrets = secrets_of(loaded.settings)
        findings = [ok("settings", _origins(loaded.origins.values())), *examination(loaded.settings)]
    rows = [_row(finding, secrets) for finding in findings]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        console().print(_table(rows))
        print(summary(findings))
    return 1 if any(finding.state is State.BROKEN for finding in findings) else 0


def summary(findings: Sequence[Finding]) -> str:
    """One line: how many of what."""
    counts = Counter(str(finding.state) for finding in findings)
    return "\n" + ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])


def secrets_of(settings: Settings) -> list[str]:
    """Every secret that a server's message might repeat, longest first."""
    found: list[str] = []
    for name in setting_fields():
        value = value_of(settings, name)
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
    kafka = settings.kafka
    for options in (kafka.options, kafka.consumer_options, kafka.producer_options):
        found += [value for name, value in options.items() if is_secret_option(name)]
    files = [*kafka.option_files.values(), settings.index.token_file, settings.intake.s3_secret_access_key_file]
    for file in files:
        # One that cannot be read has told nobody anything; its check says so.
        with suppress(SettingError):
            found.append(read_secret_file(file, "") if file is not None else "")
    return sorted({secret for secret in found if len(secret) >= _MASKED_CHARS_MIN}, key=len, reverse=True)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Text without secrets, and without the user part of addresses."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return str(shown(text))


def _row(finding: Finding, secrets: Sequence[str]) -> dict[str, str]:
    return {
        "check": finding.check,
        "state": str(finding.state),
        "found": masked(finding.found, secrets),
        "fix": masked(finding.fix, secrets),
    }


def _table(rows: Sequence[dict[str, str]]) -> Table:
    table = Table("check", "state", "found", "fix", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            cell(row["check"]), cell(row["state"], STYLES[row["state"]]), cell(row["found"]), cell(row["fix"])
        )
    for column in table.columns[:2]:
        column.no_wrap = True
    for column in table.columns[2:]:
        column.overflow = "fold"
    return table


def _origins(origins: Iterable[str]) -> str:
    """`loaded; from file dejaview.yaml, 2 flags`: where settings came from, counted."""
    kinds: Iterator[str] = (one for origin in origins for one in origin.split(", ") if one != "default")
    counts = Counter(kind if kind.startswith("file ") else kind.partition(" ")[0] for kind in kinds)
    parts = [f"{count} from {kind}" for kind, count in counts.items()]
    return f"loaded: {', '.join(parts) or 'all are the defaults'}"

"""`dejaview config`: the effective settings."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from ops.cli.display import cell, console, shown, text_of
from ops.cli.fields import setting_fields, value_of
from ops.cli.settings import DEFAULT, Loaded, add_settings_options, load_settings


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `config`."""
    parser = subparsers.add_parser("config", help="show the effective settings and where they come from")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="name, value and origin as JSON")
    form.add_argument("--memory", action="store_true", help="what a worker of each stage can take at most, in MB")
    form.add_argument("--markdown", action="store_true", help="all settings with their defaults, for the README")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Show what the sources add up to."""
    if args.markdown:
        print(markdown())
        return 0
    loaded = load_settings(args.config, args.flags)
    if args.json:
        print(json.dumps(effective(loaded), indent=2, ensure_ascii=False))
        return 0
    console().print(_memory(loaded) if args.memory else _table(loaded))
    return 0


def effective(loaded: Loaded) -> dict[str, dict[str, object]]:
    """Setting -> value (secrets masked) and origin."""
    return {
        name: {"value": shown(value_of(loaded.settings, name)), "origin": loaded.origins[name]}
        for name in setting_fields()
    }


def markdown() -> str:
    """The README's table of settings."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for field in setting_fields().values():
        default = text_of(shown(field.default))
        meaning = field.description or ", ".join(f"`{choice}`" for choice in field.choices)
        parts = (f"`{field.name}`", f"`{default}`" if default else "", meaning)
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |")
    return "\n".join(lines)


def _memory(loaded: Loaded) -> Table:
    """The formula of ARCHITECTURE.md, "Memory", for a worker that may own every partition."""
    # Here: it imports OpenVINO and pymilvus, and the other forms answer without.
    from ops.capacity import memory_parts  # noqa: PLC0415
    from stream.service import ALL_STAGES  # noqa: PLC0415

    chosen = {**{stage.value: [stage] for stage in ALL_STAGES}, "all": list(ALL_STAGES)}
    parts = {name: memory_parts(loaded.settings, stages) for name, stages in chosen.items()}
    table = Table("MB", *chosen, box=None, pad_edge=False)
    for part in parts["all"]:
        table.add_row(part, *(str(own[part] // 1_000_000) if part in own else "" for own in parts.values()))
    table.add_row("sum", *(str(sum(own.values()) // 1_000_000) for own in parts.values()), style="bold")
    return table


def _table(loaded: Loaded) -> Table:
    table = Table("setting", "value", "origin", box=None, pad_edge=False)
    for name, row in effective(loaded).items():
        style = "dim" if row["origin"] == DEFAULT else "bold"
        table.add_row(cell(name), cell(row["value"], style), cell(row["origin"], style))
    for column in table.columns:
        column.overflow = "fold"
    return table

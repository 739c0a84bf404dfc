"""Figures as a table, the same for the terminal, Markdown and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are text; the first column names, the others hold figures."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def markdown(lines: Sequence[str], of: Sequence[Table], command: str) -> str:
    """Sentences, tables and the command that made them."""
    parts = [*lines]
    for table in of:
        head = [f"## {table.title}", "", table.note, ""]
        rows = ["| " + " | ".join(row) + " |" for row in (table.header, *table.rows)]
        rows.insert(1, "|---" * len(table.header) + "|")
        parts.append("\n".join([*head, *rows]))
    parts.append(f"    {command}")
    return "\n\n".join(parts) + "\n"


def html_table(table: Table) -> str:
    """A heading, the note and the table; what scrolls by itself has the class `wide`."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f"<h2>{escape(table.title)}</h2><p class='soft'>{escape(table.note)}</p>"
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )

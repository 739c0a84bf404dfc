"""How settings and untrusted text are shown: no secrets, no control characters."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Shown
from rich.text import Text

from models.evaluation.table import Table
from ops.cli.fields import SettingField
from stream.secrets import is_secret_option
from stream.uris import without_user_info

MASK = "***"
WIDTH_WITHOUT_TERMINAL = 200


def shown(value: Any, name: str = "") -> Any:
    """A setting's value for JSON and tables. An empty secret is shown as empty: it is not set.

    Args:
        name: of a librdkafka option, if the value is one's.
    """
    # Before its kind is asked: a password may be a number.
    if isinstance(value, SecretStr) or (is_secret_option(name) and not isinstance(value, BaseModel | dict)):
        return MASK if value else ""
    if isinstance(value, BaseModel):
        return {field: shown(getattr(value, field)) for field in type(value).model_fields}
    if isinstance(value, dict):
        return {str(key): shown(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [shown(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_user_info(str(value))


def shown_input(field: SettingField, place: str, value: Any) -> str:
    """` = VALUE` for an error message, or nothing where it might be or hold a secret."""
    if field.secret or not isinstance(value, str | bool | int | float):
        return ""
    if place == field.name and field.structured:
        return ""
    return f" = {plain(str(shown(value, place.removeprefix(field.name))))}"


def text_of(value: Any) -> str:
    """A shown value on one line."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """Text from outside without what could steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def cell(value: Any, style: str = "") -> Text:
    """A table cell; square brackets in it are no markup."""
    return Text(plain(text_of(value)), style=style)


def console() -> Console:
    """For tables on stdout, wide when it is no terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def show_table(table: Table) -> None:
    """Figures on stdout."""
    drawn = Shown(title=table.title, caption=table.note, title_justify="left", caption_justify="left")
    for place, name in enumerate(table.header):
        drawn.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for row in table.rows:
        drawn.add_row(*row)
    console().print(drawn)


def progress_bar() -> Progress:
    """On stderr, and only where somebody looks at it."""
    shown_on = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=shown_on, disable=not shown_on.is_terminal, transient=True)


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def command_line() -> str:
    """How this command was called."""
    return f"dejaview {shlex.join(sys.argv[1:])}"

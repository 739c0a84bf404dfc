"""Where settings come from: a YAML file, the environment, flags. Each is read into `Given`s.

Written here rather than taken from pydantic-settings' sources: those ignore a misspelt environment
variable, print the text they could not parse (a password, perhaps) and forget where a value came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ops.cli.fields import nearest, section_names, setting_fields

ENV_PREFIX = "DEJAVIEW_"
CONFIG_VARIABLE = "DEJAVIEW_CONFIG"
# Of the commands, not of the settings.
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "DEJAVIEW_CACHE"})
# What PyYAML quotes may be a secret (an unknown alias `*…`, a tag `!…`); a character or two is none.
_QUOTED = re.compile(r"""(['"]).{3,}\1""")
# Kubernetes tells every pod of a service named dejaview-… in such variables.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_|$)")


@dataclass(frozen=True, slots=True)
class Given:
    """One setting as one source gives it, not yet checked. `name` is a setting's dotted name."""

    name: str
    value: Any
    origin: str

    def __repr__(self) -> str:
        return f"Given({self.name}, from {self.origin})"


def from_file(path: Path, problems: list[str]) -> list[Given]:
    """The settings of a YAML file; what is wrong with it is added to `problems`."""
    origin = f"file {path}"
    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        problems.append(f"{origin}: {reason}")
        return []
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = _QUOTED.sub("'…'", getattr(error, "problem", None) or "it cannot be read")
        problems.append(f"{origin}: not YAML{where}: {reason}")
        return []
    if content is None:
        return []
    if not isinstance(content, dict):
        problems.append(f"{origin}: must hold sections and settings (name: value)")
        return []
    return list(_walk("", content, origin, problems))


def from_environment(environ: Mapping[str, str], problems: list[str]) -> list[Given]:
    """The settings of `DEJAVIEW_*`, nested by `__`; JSON for lists and tables."""
    given: list[Given] = []
    for variable, text in environ.items():
        if not variable.upper().startswith(ENV_PREFIX) or variable.upper() in OTHER_VARIABLES:
            continue
        name = variable[len(ENV_PREFIX) :].lower().replace("__", ".")
        if name in setting_fields() or name in section_names():
            given += _parsed(name, text, f"environment {variable}", problems)
        elif not _is_service_link(variable, environ):
            problems.append(f"environment {variable}: there is no such setting{_nearest_variable(name)}")
    return given


def from_flags(flags: Sequence[str], problems: list[str]) -> list[Given]:
    """The settings of `--name=value` and `--name value`; JSON for lists and tables."""
    given: list[Given] = []
    for name, text in _pairs(flags):
        if name not in setting_fields():
            problems.append(f"--{name}: there is no such setting{nearest(name)}")
        elif text is None:
            problems.append(f"--{name} needs a value: --{name}=…")
        else:
            given += _parsed(name, text, f"flag --{name}", problems)
    return given


def take_flags(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into what argparse reads and the settings' flags.

    Before argparse, which would take the value of a flag it does not know for a file to send.
    """
    rest: list[str] = []
    flags: list[str] = []
    index = 0
    while index < len(tokens):
        word = tokens[index]
        if word == "--":
            return [*rest, *tokens[index:]], flags
        index += 1
        if not _is_setting_flag(word):
            rest.append(word)
            continue
        flags.append(word)
        if "=" not in word and index < len(tokens) and not tokens[index].startswith("--"):
            flags.append(tokens[index])
            index += 1
    return rest, flags


def _is_setting_flag(token: str) -> bool:
    if not token.startswith("--"):
        return False
    name = _flag_name(token)
    return "." in name or name in setting_fields()


def _flag_name(token: str) -> str:
    return token.removeprefix("--").partition("=")[0].replace("-", "_")


def _pairs(flags: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    waiting: str | None = None
    for token in flags:
        if waiting is not None and not token.startswith("--"):
            yield waiting, token
            waiting = None
            continue
        if waiting is not None:
            yield waiting, None
        waiting = _flag_name(token)
        if "=" in token:
            yield waiting, token.partition("=")[2]
            waiting = None
    if waiting is not None:
        yield waiting, None


def _parsed(name: str, text: str, origin: str, problems: list[str]) -> list[Given]:
    """Text as a setting's value. What is no JSON is not repeated: it may be a secret."""
    field = setting_fields().get(name)
    if field is not None and not field.structured:
        return [Given(name, text, origin)]
    try:
        value = json.loads(text)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        example = '["a", "b"]' if field is not None and not isinstance(field.default, dict) else '{"name": "value"}'
        problems.append(f"{name} ({origin}): must be JSON, for example '{example}': {reason}")
        return []
    return list(_walk(name, value, origin, problems))


def _walk(name: str, value: Any, origin: str, problems: list[str]) -> Iterator[Given]:
    if name in setting_fields():
        yield Given(name, value, origin)
        return
    if name and name not in section_names():
        problems.append(f"{name} ({origin}): there is no such setting{nearest(name)}")
        return
    if value is None:
        return
    if not isinstance(value, dict):
        problems.append(f"{name} ({origin}): this is a section; it holds settings (name: value)")
        return
    for key, inner in value.items():
        yield from _walk(f"{name}.{key}" if name else str(key), inner, origin, problems)


def _nearest_variable(name: str) -> str:
    variables = (ENV_PREFIX + known.upper().replace(".", "__") for known in setting_fields())
    return nearest(ENV_PREFIX + name.upper().replace(".", "__"), variables)


def _is_service_link(variable: str, environ: Mapping[str, str]) -> bool:
    in_pod = "KUBERNETES_SERVICE_HOST" in environ
    return in_pod and "__" not in variable and _SERVICE_LINK.search(variable) is not None

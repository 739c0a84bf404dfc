"""Settings for the commands: defaults, then the YAML file, the environment and flags; later wins."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ops.cli.display import shown_input
from ops.cli.fields import setting_fields
from ops.cli.sources import CONFIG_VARIABLE, Given, from_environment, from_file, from_flags
from stream.config import Settings
from stream.errors import SettingError

DEFAULT = "default"
_NAME = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings, and where each (by dotted name) came from."""

    settings: Settings
    origins: Mapping[str, str]


class _Given(Settings):
    """Settings that read no source by themselves: what is given was read and merged here."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it with all of them, by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Let a command take `--config FILE` and settings as flags (`args.config`, `args.flags`)."""
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"settings in YAML (default: ${CONFIG_VARIABLE})")
    parser.set_defaults(takes_settings=True)
    parser.epilog = "Any setting is a flag too: --kafka.bootstrap_servers=HOST:PORT. `dejaview config` lists them."


def load_settings(config: Path | None, flags: Sequence[str], environ: Mapping[str, str] | None = None) -> Loaded:
    """Read all sources, merge them deeply and check the result.

    Args:
        config: the YAML file; `$DEJAVIEW_CONFIG` if None.
        flags: `--name=value` or `--name`, `value`.
        environ: the environment; the process's own if None.

    Raises:
        SettingError: everything that is wrong, one line each: setting, value, origin, rule.
    """
    environ = os.environ if environ is None else environ
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    problems: list[str] = []
    given = [
        *(from_file(config, problems) if config else ()),
        *from_environment(environ, problems),
        *from_flags(flags, problems),
    ]
    if problems:
        raise SettingError(_listed(problems))
    values, origins = _merged(given)
    try:
        return Loaded(_Given(**values), origins)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        problems = [_explained(detail, origins) for detail in details]
    raise SettingError(_listed(problems))


def _merged(given: Sequence[Given]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins = dict.fromkeys(setting_fields(), DEFAULT)
    for one in given:
        *sections, last = one.name.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        before = section.get(last)
        both = isinstance(before, dict) and isinstance(one.value, dict)
        section[last] = _deep(before, one.value)
        origins[one.name] = f"{origins[one.name]}, {one.origin}" if both else one.origin
    return values, origins


def _deep(lower: Any, upper: Any) -> Any:
    """Tables are joined key by key; anything else is replaced."""
    if not (isinstance(lower, dict) and isinstance(upper, dict)):
        return upper
    return {**lower, **{key: _deep(lower.get(key), value) for key, value in upper.items()}}


def _explained(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    rule = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    place = ".".join(str(part) for part in detail["loc"])
    field = next((name for name in setting_fields() if place == name or place.startswith(f"{name}.")), None)
    if field is None:
        # A relation between settings: the message names them.
        named = [f"{name}: {origins[name]}" for name in dict.fromkeys(_NAME.findall(rule)) if name in origins]
        return f"{rule} ({'; '.join(named)})" if named else f"{place}: {rule}" if place else rule
    value = shown_input(setting_fields()[field], place, detail["input"])
    return f"{place}{value} ({origins[field]}): {rule}"


def _listed(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} settings are wrong:" + "".join(f"\n  {problem}" for problem in problems)

"""Every setting by its dotted name, read off the model."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from stream.config import Section, Settings


@dataclass(frozen=True, slots=True)
class SettingField:
    """One setting: `kafka.bootstrap_servers` and what the model says of it."""

    name: str
    annotation: Any
    default: Any
    description: str

    @property
    def secret(self) -> bool:
        return self.annotation is SecretStr

    @property
    def structured(self) -> bool:
        """A list or a table: JSON in the environment and in a flag."""
        return any(get_origin(kind) in (dict, list) for kind in _alternatives(self.annotation))

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(get_args(self.annotation)) if get_origin(self.annotation) is Literal else ()


@cache
def setting_fields() -> dict[str, SettingField]:
    """All settings in the model's order."""
    return {field.name: field for field in _fields(Settings, "")}


@cache
def section_names() -> frozenset[str]:
    """The names above the settings: `kafka`, `topics`, …"""
    return frozenset(name.rpartition(".")[0] for name in setting_fields() if "." in name)


def value_of(settings: Settings, name: str) -> Any:
    """The value of a setting by its dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def nearest(name: str, names: Iterable[str] | None = None) -> str:
    """`; did you mean X?`, or nothing."""
    found = get_close_matches(name, list(names if names is not None else setting_fields()), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _fields(model: type[BaseModel], prefix: str) -> Iterator[SettingField]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            default = info.get_default(call_default_factory=True, validated_data={})
            yield SettingField(f"{prefix}{name}", kind, default, info.description or "")


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)

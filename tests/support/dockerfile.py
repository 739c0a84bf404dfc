"""The Dockerfile as data: its stages, and what an image of a target is configured to do.

It knows what ours uses (no heredocs, no ONBUILD); hadolint judges the rest of the syntax.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
# Of every base image.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_FLAG = re.compile(r"--(?P<name>[a-z-]+)(?:=(?P<value>\S+))?\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`RUN …`: its flags (`--mount=…`, `--from=…`) apart from its text."""

    name: str
    flags: tuple[tuple[str, str], ...]
    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM to the next FROM. `base` is another stage's name, or an image's."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]


@dataclass
class Config:
    """What an image is set to."""

    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)
    user: str = "0:0"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """What `${…}` in an instruction, and the environment of RUN, may name."""
        return {**self.args, **self.env}

    def take(self, instruction: Instruction) -> None:
        """Follow an instruction that configures; RUN, COPY and the like leave it as it is."""
        text = substituted(instruction.text, self.variables)
        match instruction.name:
            case "ARG":
                name, _, default = instruction.text.partition("=")
                self.args[name] = "".join(shlex.split(substituted(default, self.variables)))
            case "ENV":
                self.env |= pairs(text)
            case "LABEL":
                self.labels |= pairs(text)
            case "EXPOSE":
                self.ports += [int(port) for port in text.split()]
            case "USER":
                self.user = text
            case "WORKDIR":
                self.folder = text
            case "SHELL" | "ENTRYPOINT" | "CMD" | "HEALTHCHECK":
                self._take_command(instruction.name, json.loads(text.removeprefix("CMD")))

    def _take_command(self, name: str, command: list[str]) -> None:
        match name:
            case "SHELL":
                self.shell = command
            case "ENTRYPOINT":
                self.entrypoint, self.command = command, []
            case "CMD":
                self.command = command
            case "HEALTHCHECK":
                self.health = command


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}` and `$NAME` by their values; empty when there is none, as Docker does."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)


def pairs(text: str) -> dict[str, str]:
    """`A=1 B="2 3"`."""
    return {part.partition("=")[0]: part.partition("=")[2] for part in shlex.split(text)}


def stages(file: Path = DOCKERFILE) -> dict[str, Stage]:
    """All stages by name, in their order."""
    found: dict[str, Stage] = {}
    above = Config()
    for instruction in instructions(file.read_text()):
        if instruction.name == "FROM":
            image, _, name = substituted(instruction.text, above.variables).partition(" AS ")
            found[name] = Stage(name, image, ())
        elif found:
            name, last = found.popitem()
            found[name] = Stage(name, last.base, (*last.instructions, instruction))
        else:
            above.take(instruction)
    return found


def instructions(text: str) -> Iterator[Instruction]:
    """Comments left out, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        flags = []
        while flag := _FLAG.match(rest := rest.lstrip()):
            flags.append((flag["name"], flag["value"] or ""))
            rest = rest[flag.end() :]
        yield Instruction(name, tuple(flags), rest.strip())


def config(target: str, file: Path = DOCKERFILE) -> Config:
    """The configuration of an image built with `--target`."""
    all_stages = stages(file)
    stage = all_stages[target]
    inherited = config(stage.base, file) if stage.base in all_stages else Config()
    # ARGs end with their stage.
    inherited.args = {}
    for instruction in stage.instructions:
        inherited.take(instruction)
    return inherited

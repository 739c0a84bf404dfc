"""Figures that are told as they come: a machine that is taken back leaves what was measured."""

from __future__ import annotations

import sys
from typing import Any


class Told(dict[str, Any]):
    """A dictionary that writes each of its items to standard error when it is set."""

    def __setitem__(self, name: str, value: object) -> None:
        super().__setitem__(name, value)
        sys.stderr.write(f"{name}: {value}\n")

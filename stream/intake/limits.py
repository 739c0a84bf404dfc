"""The limits of one decoder process, as its parent passes them on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture, and the process that decodes it, may take."""

    bytes_max: int
    pixels_max: int
    side_max: int
    cpu_s: float
    wall_s: float
    memory_bytes: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Limits:
        return Limits(**json.loads(text))

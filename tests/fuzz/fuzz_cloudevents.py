"""atheris over the event parser: `python -m tests.fuzz.fuzz_cloudevents CORPUS -seed=1 -max_total_time=60`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["schemas", "stream.incoming", "stream.tenants", "json", "base64"]):
    from tests.fuzz import targets


def one(data: bytes) -> None:
    """Headers as lines `name:value`, an empty line, the value."""
    head, _, value = data.partition(b"\n\n")
    lines = (line.partition(b":") for line in head.split(b"\n"))
    targets.event([(name.decode("utf-8", "replace"), text) for name, _, text in lines], value)
    targets.fingerprint(value)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

"""`make fuzz`: each harness for some seconds, from seeds made now, with a seed that is printed.

    python -m tests.fuzz.run --seconds 60 [--seed N] [--keep FOLDER]

A finding ends with the input in FOLDER/HARNESS-findings; give the file to the harness to see it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import seeds

HARNESSES = {"cloudevents": 4_096, "decode": 65_536}


def main(arguments: list[str]) -> int:
    """Run all harnesses; the exit status is 1 when one found something."""
    parser = argparse.ArgumentParser(description="fuzz the event parser and the decoder")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None)
    parsed = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is missing: pip install -e '.[fuzz]' (wheels for Linux only)")  # noqa: T201
        return 2
    seed = secrets.randbelow(2**31 - 1) + 1 if parsed.seed is None else parsed.seed
    folder = parsed.keep or Path(tempfile.mkdtemp(prefix="dejaview-fuzz-"))
    seeds.main(folder)
    return max([_run(name, bytes_max, folder, seed, parsed.seconds) for name, bytes_max in HARNESSES.items()])


def _run(name: str, bytes_max: int, folder: Path, seed: int, seconds: int) -> int:
    findings = folder / f"{name}-findings"
    findings.mkdir(exist_ok=True)
    options = [f"-seed={seed}", f"-max_total_time={seconds}", f"-max_len={bytes_max}", f"-artifact_prefix={findings}/"]
    # A picture may take seconds and a gigabyte of address space; more is a finding.
    options += ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"]
    command = [sys.executable, "-m", f"tests.fuzz.fuzz_{name}", str(folder / name), *options]
    print(f"{name}: seed {seed}, {seconds} s, findings in {findings}", flush=True)  # noqa: T201
    return min(1, subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

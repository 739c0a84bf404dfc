"""imagededup's CNN encoding, in an environment of its own, at every number of loader processes that may be its best.

Its ImageNet weights are not downloaded: random ones take the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.local.cache import fetch_once
from stream.errors import DejaviewError

VERSION = "0.3.3.post2"
PACKAGES = (f"imagededup=={VERSION}", "torch==2.13.0", "torchvision==0.28.0")
INSTALL_S = 1_800
RUN_S = 1_800
_SCRIPT = """
import json, sys, time
import torchvision
whole = torchvision.models.mobilenet_v3_small
torchvision.models.mobilenet_v3_small = lambda weights: whole(weights=None)
from imagededup.methods import CNN
cnn = CNN(verbose=False)
found = {}
for workers in json.loads(sys.argv[2]):
    begun = time.perf_counter()
    count = len(cnn.encode_images(image_dir=sys.argv[1], num_enc_workers=workers))
    found[workers] = count / (time.perf_counter() - begun)
print("FOUND " + json.dumps(found))
"""


class PeerFailed(DejaviewError):
    """The peer could not be installed or did not run."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Images/s by number of loader processes; 0: all in one."""

    by_workers: dict[int, float]

    @property
    def alone(self) -> float:
        return self.by_workers[0]

    @property
    def best(self) -> float:
        return max(self.by_workers.values())


def measure(photos: Sequence[bytes], folder: Path) -> Peer:
    """Encode these photos from files, as imagededup does.

    Raises:
        PeerFailed: it cannot be installed here, or failed.
    """
    python = environment() / "bin" / "python"
    files = folder / "peer"
    files.mkdir()
    for number, data in enumerate(photos):
        (files / f"{number}.jpg").write_bytes(data)
    cores = os.cpu_count() or 1
    workers = sorted({0, 1, cores, 2 * cores})
    found = _run([str(python), "-c", _SCRIPT, str(files), json.dumps(workers)], RUN_S)
    lines = [line for line in found.splitlines() if line.startswith("FOUND ")]
    if not lines:
        raise PeerFailed(f"imagededup said nothing: {found[-500:]}")
    return Peer({int(name): rate for name, rate in json.loads(lines[0].removeprefix("FOUND ")).items()})


def environment() -> Path:
    """A virtual environment with imagededup (5 GB), made if it is not in the cache."""
    return fetch_once(f"imagededup-{VERSION}", _install)


def _install(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)], INSTALL_S)
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *PACKAGES], INSTALL_S)


def _run(command: Sequence[str], timeout_s: float) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(f"{command[0]} took more than {timeout_s:g} s") from error
    if answer.returncode != 0:
        raise PeerFailed(f"{command[0]}: {(answer.stderr or answer.stdout).strip()[-1000:]}")
    return answer.stdout

"""The image for CPUs, made by the Dockerfile's own commands, does its work as charts/dejaview runs it.

`make test-image`: as root on Debian, with Debian's mirror and PyPI in reach. What it makes stays in `build/image`.
Every command here is process 1, another user than root, without rights, on a root file system that is read only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from ops.local.errors import LocalError
from tests.image.root import Rooted, build
from tests.support.dockerfile import ROOT
from tests.support.missing import is_missing

pytestmark = [pytest.mark.image, pytest.mark.timeout(7200)]

FOLDER = ROOT / "build" / "image"
# What a health check finds: a worker that is well, and one whose loop has stood still.
HEALTH = """
import subprocess, sys, time
from stream.config import HealthSettings
from stream.health import Health, HealthServer
from stream.metrics import Metrics
health = Health(loop_stall_s=0.1 if sys.argv[1] == "stalled" else 60)
server = HealthServer(HealthSettings(), health, Metrics())
health.beat("encode")
time.sleep(0.3)
sys.exit(subprocess.run(sys.argv[2:], stderr=subprocess.DEVNULL).returncode)
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Rooted]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        yield build("cpu", FOLDER)
    except LocalError as error:
        if "is made by root" in str(error):
            is_missing(str(error))
        raise


def said(image: Rooted, command: Sequence[str], **more: object) -> subprocess.CompletedProcess[str]:
    return image.run(command, timeout_s=600, **more)  # type: ignore[arg-type]


def test_the_program_starts(image: Rooted) -> None:
    """As another user than root. Break: USER left out."""
    ended = said(image, [*image.config.entrypoint, "--version"])
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "dejaview"), ended.stderr
    assert said(image, ["id", "-u"]).stdout.strip() == image.config.user.partition(":")[0]


def test_nothing_but_tmp_can_be_written(image: Rooted) -> None:
    """So the chart's one volume is enough."""
    tried = "for f in /opt/dejaview/x /x /var/tmp/x /etc/x /tmp/x; do touch $f 2>/dev/null && echo $f; done; true"
    assert said(image, ["sh", "-c", tried]).stdout.split() == ["/tmp/x"]


def test_pictures_are_decoded_and_encoded(image: Rooted, tmp_path: Path) -> None:
    """The sandbox of the decoders, OpenVINO and its parity gate: a copy is found. Break: HOME outside of /tmp."""
    picture = Image.effect_mandelbrot((400, 300), (-2.0, -1.5, 1.0, 1.5), 100).convert("RGB")
    picture.save(tmp_path / "first.png")
    picture.resize((200, 150)).save(tmp_path / "copy.jpg")
    tmp_path.chmod(0o755)
    ended = said(image, ["dejaview", "scan", "/mnt", "--json", "-"], mounted={tmp_path: "/mnt"})
    assert ended.returncode == 0, ended.stderr
    (group,) = json.loads(ended.stdout)["groups"]
    assert {"first.png", "copy.jpg"} == {Path(name).name for name in names(group)}


def names(group: object) -> Iterator[str]:
    """Every file name of a group, wherever it stands in it."""
    if isinstance(group, dict):
        group = list(group.values())
    if isinstance(group, list):
        for one in group:
            yield from names(one)
    elif isinstance(group, str) and group.endswith((".png", ".jpg")):
        yield group


def test_doctor_finds_the_model_well(image: Rooted) -> None:
    """Only what is not there, Kafka and Milvus, is broken."""
    nowhere = ("--kafka.bootstrap_servers", "127.0.0.1:1", "--index.uri", "http://127.0.0.1:1")
    settings = [*nowhere, "--kafka.request_timeout_s", "10"]
    ended = said(image, ["dejaview", "doctor", "--json", *settings])
    assert ended.returncode == 1, ended.stderr
    states = {finding["check"]: finding["state"] for finding in json.loads(ended.stdout)}
    assert {states[check] for check in ("settings", "weights", "encoder")} == {"ok"}, ended.stdout


def test_the_health_check_tells_well_from_stalled(image: Rooted) -> None:
    """Break: `/readyz` in HEALTHCHECK would restart workers that wait for Milvus."""
    for state, wanted in (("well", 0), ("stalled", 1)):
        ended = said(image, ["/opt/dejaview/bin/python", "-c", HEALTH, state, *image.config.health])
        assert ended.returncode == wanted, (state, ended.stderr)


def test_the_list_of_packages_is_complete(image: Rooted) -> None:
    """Every installed distribution and version is in the CycloneDX list, and nothing that only builds."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    installed = json.loads(said(image, ["/opt/dejaview/bin/python", "-c", code]).stdout)
    listed = json.loads((image.folder / "opt/dejaview/sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    own = listed["metadata"]["component"]
    found = {one["name"]: one["version"] for one in [*listed["components"], own]}
    assert normalised(found) == normalised(installed)
    assert not {"torch", "pip", "setuptools", "cyclonedx-bom", "milvus-lite"} & set(normalised(installed))


def normalised(versions: dict[str, str]) -> dict[str, str]:
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in versions.items()}


def test_no_compiler_is_left(image: Rooted) -> None:
    assert said(image, ["sh", "-c", "command -v c++ gcc pip"]).stdout == ""


def test_sizes_are_told(image: Rooted, capsys: pytest.CaptureFixture[str]) -> None:
    """`docs/deploying.md` has them."""
    with capsys.disabled():
        packages = next(image.inside("/opt/dejaview/lib").glob("python*")) / "site-packages"
        for path in (image.folder, packages):
            print(f"\n{megabytes(path)} MB in /{path.relative_to(image.folder)}")  # noqa: T201 - this is what it is for
        largest = sorted(((megabytes(one), one.name) for one in packages.iterdir()), reverse=True)[:8]
        print(", ".join(f"{name} {size}" for size, name in largest))  # noqa: T201
    assert megabytes(image.folder) < 1000


def megabytes(folder: Path) -> int:
    command = [shutil.which("du") or "du", "-sm", str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])

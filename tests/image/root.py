"""An image without an engine: the Dockerfile's commands, one after the other, each in a root folder of its stage.

debootstrap's smallest Debian stands in for the base image, chroot and name spaces for the container. Needs root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ops.local.cache import fetch_once
from ops.local.errors import LocalError
from tests.support.dockerfile import ROOT, Config, Instruction, config, stages

SUITE = "bookworm"
# How this machine reaches package registries, as the one who builds would hand it in: `--secret`, `--build-arg`.
_OF_THE_MACHINE = re.compile(
    r"PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|(https?|no)_proxy", re.IGNORECASE
)
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_CERTIFICATES_INSIDE = "/run/certificates.crt"
# $1 root, $2 "ro" or "rw", $3 user:group, then pairs of SOURCE TARGET up to "--", then the command.
_ENTER = """\
set -e
root=$1 mode=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do mount --bind -o ro "$1" "$root$2"; shift 2; done
shift
if [ "$mode" = ro ]; then mount -o remount,bind,ro "$root"; mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"; fi
set -- setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups "$@"
if [ "$mode" = ro ]; then p=$1; shift; set -- "$p" --no-new-privs --inh-caps=-all --bounding-set=-all "$@"; fi
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Rooted:
    """A root folder, and how a container of it would be set."""

    folder: Path
    config: Config

    def inside(self, path: str) -> Path:
        """An absolute path of the image, as it lies here."""
        return self.folder / path.lstrip("/")

    def run(
        self,
        command: Sequence[str],
        *,
        read_only: bool = True,
        mounted: Mapping[Path, str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 1800,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as process 1; read-only also means no rights beyond the user's, and an empty /tmp."""
        inside = {**self.config.env, **(env or {})}
        mounts = [part for source, target in (mounted or {}).items() for part in (str(source), target)]
        setting = [f"{name}={value}" for name, value in inside.items()]
        moved = ["env", "-i", "-C", self.config.folder, *setting, *command]
        entered = ["sh", "-c", _ENTER, "enter", str(self.folder), "ro" if read_only else "rw", self.config.user]
        spaces = ["--mount", "--pid", "--fork", "--kill-child"]
        return subprocess.run(
            [shutil.which("unshare") or "unshare", *spaces, *entered, *mounts, "--", *moved],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


def build(target: str, folder: Path, built: dict[str, Rooted] | None = None) -> Rooted:
    """Follow the Dockerfile up to a target; every stage's root is a folder in `folder`.

    Raises:
        LocalError: a command fails, with its last words.
    """
    done = {} if built is None else built
    if target in done:
        return done[target]
    all_stages = stages()
    stage = all_stages[target]
    below = build(stage.base, folder, done).folder if stage.base in all_stages else debian()
    root = Rooted(folder / target, config(stage.base) if stage.base in all_stages else Config())
    root.config.args = {}
    _copy(below, root.folder)
    for instruction in stage.instructions:
        _say(f"{target}: {instruction.name} {instruction.text}")
        if instruction.name == "RUN":
            _run(root, instruction)
        elif instruction.name == "COPY":
            _copy_into(root, instruction, lambda name: build(name, folder, done).folder)
        else:
            root.config.take(instruction)
            if instruction.name == "WORKDIR":
                root.inside(root.config.folder).mkdir(parents=True, exist_ok=True)
    done[target] = root
    return root


def debian() -> Path:
    """The smallest Debian, kept with the other downloads.

    Raises:
        LocalError: it cannot be made here.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise LocalError("a root folder is made by root on Linux alone")
    tool = fetch_once("debootstrap", _unpack_debootstrap)
    return fetch_once(f"debian-{SUITE}", lambda folder: _debootstrap(tool, folder))


def _unpack_debootstrap(folder: Path) -> None:
    _checked(["apt-get", "download", "-qq", "debootstrap"], folder)
    _checked(["sh", "-c", "dpkg -x debootstrap_*.deb . && rm *.deb"], folder)


def _debootstrap(tool: Path, folder: Path) -> None:
    os.environ["DEBOOTSTRAP_DIR"] = str(tool / "usr" / "share" / "debootstrap")
    folder.chmod(0o755)
    _checked([str(tool / "usr" / "sbin" / "debootstrap"), "--variant=minbase", SUITE, str(folder)], folder.parent)
    for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(folder / left)
        (folder / left / "partial").mkdir(parents=True)


def _run(root: Rooted, instruction: Instruction) -> None:
    """As root or the image's user, with the network and what reaches registries from here."""
    certificates = root.inside(_CERTIFICATES_INSIDE)
    certificates.touch()
    mounted = {_CERTIFICATES: _CERTIFICATES_INSIDE, Path("/etc/resolv.conf"): "/etc/resolv.conf"}
    machine = {name: value for name, value in os.environ.items() if _OF_THE_MACHINE.fullmatch(name)}
    env = {**root.config.args, **machine, "PIP_CERT": _CERTIFICATES_INSIDE, "HOME": "/root"}
    ended = root.run([*root.config.shell, instruction.text], read_only=False, mounted=mounted, env=env)
    certificates.unlink()
    shutil.rmtree(root.folder / "root" / ".cache", ignore_errors=True)
    if ended.returncode != 0:
        raise LocalError(
            f"RUN {instruction.text}\nends with {ended.returncode}:\n{(ended.stdout + ended.stderr)[-4000:]}"
        )


def _copy_into(root: Rooted, instruction: Instruction, stage: Callable[[str], Path]) -> None:
    """A folder's content into a folder, as COPY does."""
    *sources, target = instruction.text.split()
    origin = dict(instruction.flags).get("from")
    base = stage(origin) if origin else ROOT
    to = root.inside(str(Path(root.config.folder) / target))
    for source in sources:
        path = base / source.lstrip("/")
        if not origin and not sent(source):
            raise LocalError(f".dockerignore leaves {source} out, and the Dockerfile copies it")
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
            _checked(["cp", "-a", f"{path}/.", str(to)], root.folder)
        else:
            if target.endswith(("/", ".")):
                to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)
    if not origin:
        for cache in list(to.rglob("__pycache__")):
            shutil.rmtree(cache)


def sent(path: str) -> bool:
    """Whether .dockerignore, a list of what is not left out, lets a path into the build."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    return any(fnmatch(path, line.removeprefix("!")) for line in lines if line.startswith("!"))


def _copy(source: Path, target: Path) -> None:
    _checked(["cp", "-a", "--reflink=auto", str(source), str(target)], source.parent)


def _checked(command: Sequence[str], folder: Path) -> None:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise LocalError(f"{' '.join(command)}: {(ended.stdout + ended.stderr)[-2000:]}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text[:150]}\n")

"""A real Kubernetes API server on loopback, with etcd behind it and the operators' CRDs: nothing runs the pods.

There are no controllers, so what a controller would do and Helm waits for (a finished Job) is done by `finish_jobs`.
`python -m tests.support.apiserver` builds it, so that no test waits for that.
"""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ops.local.cache import fetch_once
from ops.local.errors import LocalError
from ops.local.ports import LOOPBACK, free_ports
from ops.local.process import Process, spawn
from tests.support.go import go_module, run_go

KUBERNETES = "1.34.2"
# Where the CRDs are in the operators' Go modules.
CRDS = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
}
_TOKEN = "loopback-only"
_START_TIMEOUT_S = 180.0
_PROGRAM = """\
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
"""


def apiserver_program() -> Path:
    """kube-apiserver, built if this machine has never built it.

    Raises:
        LocalError: it cannot be built.
    """
    return fetch_once(f"kube-apiserver-{KUBERNETES}", _build) / "kube-apiserver"


def _build(folder: Path) -> None:
    """Kubernetes's own modules are replaced by relative paths in its go.mod: here by what is published of them."""
    source = folder / "source"
    source.mkdir()
    (source / "main.go").write_text(_PROGRAM)
    parts = re.findall(
        r"(k8s\.io/\S+) => \./staging", go_module(f"k8s.io/kubernetes@v{KUBERNETES}", "GoMod").read_text()
    )
    published = f"v0.{KUBERNETES.partition('.')[2]}"
    replaced = "".join(f"replace {part} => {part} {published}\n" for part in sorted(set(parts)))
    head = f"module apiserver\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\n"
    (source / "go.mod").write_text(head + replaced)
    run_go(["mod", "tidy"], source)
    # Otherwise it calls itself 0.0.0, and Helm compares that with the chart's kubeVersion.
    version = f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
    run_go(["build", f"-ldflags=-s -w {version}", "-o", str(folder / "kube-apiserver"), "."], source)
    shutil.rmtree(source)


def etcd_program() -> str:
    """etcd: the machine's, else what Debian's package holds.

    Raises:
        LocalError: there is none, and this is no Debian.
    """
    own = shutil.which("etcd")
    return own or str(fetch_once("etcd", _unpack_etcd) / "usr" / "bin" / "etcd")


def _unpack_etcd(folder: Path) -> None:
    for command in (["apt-get", "download", "-qq", "etcd-server"], ["sh", "-c", "dpkg -x etcd-server_*.deb ."]):
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise LocalError(f"there is no etcd here: install it ({error})") from error
        if ended.returncode != 0:
            raise LocalError(f"there is no etcd here, and {' '.join(command)} says: {ended.stderr or ended.stdout}")


def custom_resources() -> Iterator[dict[str, Any]]:
    """The operators' CRDs.

    Raises:
        LocalError: their modules cannot be fetched.
    """
    for module, files in CRDS.items():
        folder = go_module(module, "Dir")
        for file in files:
            yield yaml.safe_load((folder / file).read_text())


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says."""

    code: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True, slots=True)
class Apiserver:
    """A running server; `kubeconfig` is for Helm."""

    address: str
    kubeconfig: Path

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        """One request as the administrator."""
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.address}{path}", data, headers, method=method)  # noqa: S310 - our own server
        # Its certificate is made at its start, for loopback.
        unverified = ssl._create_unverified_context()  # noqa: S323
        try:
            with urlopen(request, context=unverified, timeout=60) as answer:  # noqa: S310
                return Answer(answer.status, _parsed(answer.read()))
        except HTTPError as error:
            with error:
                return Answer(error.code, _parsed(error.read()))

    def finish_jobs(self, namespace: str) -> None:
        """Do what the Job controller and the pods would: every Job has succeeded."""
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        for job in self.ask("GET", path).body.get("items", []):
            if not job["status"].get("conditions"):
                now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                done = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
                status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done}
                name = job["metadata"]["name"]
                self.ask("PATCH", f"{path}/{name}/status", {"status": status}, "application/merge-patch+json")


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except ValueError:
        return {"message": content.decode(errors="replace")}


@contextmanager
def running(folder: Path) -> Iterator[Apiserver]:
    """etcd and the server, with the CRDs; ended and forgotten afterwards.

    Raises:
        LocalError: one is missing, or does not start.
    """
    programs = etcd_program(), str(apiserver_program())
    resources = list(custom_resources())
    client, peer, secure = free_ports(3)
    started: list[Process] = []
    try:
        started.append(spawn(_etcd(programs[0], folder, client, peer), folder, folder / "etcd.log", {}))
        started.append(spawn(_apiserver(programs[1], folder, client, secure), folder, folder / "apiserver.log", {}))
        server = Apiserver(f"https://{LOOPBACK}:{secure}", _kubeconfig(folder, secure))
        _wait(server, started, folder)
        for resource in resources:
            made = server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", resource)
            if made.code != 201:
                raise LocalError(f"the CRD {resource['metadata']['name']} is refused: {made.message}")
        yield server
    finally:
        for process in reversed(started):
            process.kill()


def _etcd(program: str, folder: Path, client: int, peer: int) -> list[str]:
    own, other = f"http://{LOOPBACK}:{client}", f"http://{LOOPBACK}:{peer}"
    listen = ["--listen-client-urls", own, "--advertise-client-urls", own, "--listen-peer-urls", other]
    cluster = ["--initial-advertise-peer-urls", other, "--initial-cluster", f"default={other}"]
    return [program, "--data-dir", str(folder / "etcd"), *listen, *cluster]


def _apiserver(program: str, folder: Path, etcd: int, port: int) -> list[str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = folder / "accounts.key", folder / "accounts.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{_TOKEN},admin,admin,system:masters\n")
    options = {
        "etcd-servers": f"http://{LOOPBACK}:{etcd}",
        "bind-address": LOOPBACK,
        "secure-port": port,
        "cert-dir": folder / "certificates",
        "token-auth-file": tokens,
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": public,
        "service-account-signing-key-file": private,
        "service-cluster-ip-range": "10.0.0.0/24",
        # It waits for a controller that makes the accounts.
        "disable-admission-plugins": "ServiceAccount",
    }
    return [program, *(f"--{name}={value}" for name, value in options.items())]


def _kubeconfig(folder: Path, port: int) -> Path:
    server = {"server": f"https://{LOOPBACK}:{port}", "insecure-skip-tls-verify": True}
    file = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
        "current-context": "here",
    }
    file.write_text(yaml.safe_dump(content))
    return file


def _wait(server: Apiserver, processes: list[Process], folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and all(process.alive for process in processes):
        try:
            if server.ask("GET", "/readyz").code == 200:
                return
        except (URLError, OSError):
            """Not listening yet."""
        time.sleep(0.5)
    said = "".join((folder / f"{name}.log").read_text()[-1500:] for name in ("etcd", "apiserver"))
    raise LocalError(f"the API server is not ready within {_START_TIMEOUT_S:.0f} s: {said}")


def main() -> int:
    """Exit status: 0 when everything is there."""
    try:
        print(apiserver_program(), etcd_program(), len(list(custom_resources())), "CRDs")  # noqa: T201 - a command
    except LocalError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

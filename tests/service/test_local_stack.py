"""`dejaview local` starts what is missing, ends only what it started, and keeps the data."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ops.local.errors import LocalError
from ops.local.kafka import KafkaServer
from ops.local.ports import free_port
from ops.local.process import Process, _start_time, spawn
from ops.local.stack import LocalStack

_ADMIN_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def stack(kafka: KafkaServer, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack beside the session's servers: two of each on one machine do not collide."""
    assert kafka.bootstrap
    assert milvus_uri
    stack = LocalStack(tmp_path_factory.mktemp("stack"))
    stack.up(kafka_port=free_port(), milvus_port=free_port())
    yield stack
    stack.down()


def _topics(bootstrap: str) -> set[str]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return set(admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics)


def test_up_twice_starts_once(stack: LocalStack) -> None:
    """`up` beside a running stack changes nothing. Break: drop the `alive` check in `_bring_up`."""
    before = stack.status()
    addresses = stack.up()
    assert stack.status() == before
    assert all(server.running for server in before)
    assert {addresses.bootstrap, addresses.milvus_uri.removeprefix("http://")} == {s.address for s in before}


def test_down_twice_and_the_data_is_there_afterwards(stack: LocalStack) -> None:
    """A topic survives `down` and `up`, on the same ports. Break: format the storage at every start."""
    addresses = stack.up()
    admin = AdminClient({"bootstrap.servers": addresses.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(_ADMIN_TIMEOUT_S)

    assert stack.down() == ["kafka", "milvus"]
    assert stack.down() == []
    assert not any(server.running for server in stack.status())

    assert stack.up() == addresses
    assert "kept" in _topics(addresses.bootstrap)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without being told")
def test_only_loopback_reaches_kafka(stack: LocalStack) -> None:
    """The broker's port is bound to 127.0.0.1. Break: `listeners` without a host."""
    port = int(stack.up().bootstrap.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.2", port))


def test_a_reused_pid_is_never_ended(tmp_path: Path) -> None:
    """`down` ends a process only if its start time is the recorded one. Break: compare pids alone."""
    stranger = spawn([sys.executable, "-c", "import signal; signal.pause()"], tmp_path, tmp_path / "log", {})
    try:
        entry = {"pid": stranger.pid, "started": "another time", "port": 1, "log": str(tmp_path / "log")}
        (tmp_path / "state.json").write_text(json.dumps({"version": 1, "servers": {"kafka": entry}}))
        assert LocalStack(tmp_path).down() == []
        assert stranger.alive
    finally:
        stranger.kill()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """A port in use gives an error that names it, and starts nothing. Break: skip `is_free` in `_choose_ports`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = KafkaServer(tmp_path, port)
        with pytest.raises(LocalError, match=f"port {port} is taken"):
            server.start()
    assert not server.running


def test_a_server_that_ends_shows_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot start is reported with its own log. Break: leave the log out of the error."""
    monkeypatch.setattr(KafkaServer, "_settings", lambda _: "process.roles=neither\n")
    (tmp_path / "log-dirs").mkdir()
    (tmp_path / "log-dirs" / "meta.properties").write_text("")
    with pytest.raises(LocalError, match=r"(?s)ended while starting.*neither"):
        KafkaServer(tmp_path).start()


def test_end_kills_what_ignores_sigterm(tmp_path: Path) -> None:
    """SIGTERM, then SIGKILL: no process is left behind. Break: return after SIGTERM."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    process = spawn([sys.executable, "-c", deaf], tmp_path, tmp_path / "log", {})
    try:
        while "deaf" not in (tmp_path / "log").read_text():
            assert process.alive
        process.end(timeout_s=0.2)
        assert not process.alive
    finally:
        process.kill()


def test_a_process_of_another_parent_is_known(tmp_path: Path) -> None:
    """`down` in another program than `up` sees the same process. Break: rely on waitpid alone."""
    code = (
        "import sys, pathlib; from ops.local.process import spawn; "
        "here = pathlib.Path('.'); "
        "p = spawn([sys.executable, '-c', 'import signal; signal.pause()'], here, here / 'log', {}); "
        "print(p.pid, p.started, sep='|')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    pid, started = answer.stdout.strip().split("|")
    process = Process(int(pid), started)
    try:
        assert process.alive
        assert _start_time(process.pid) == started
        process.end(timeout_s=5)
        assert not process.alive
    finally:
        process.kill()

"""Every expected error is one message without a traceback, with the exit code that tells its kind.

Breaks that these tests catch, each tried: SettingError exiting with 1; the pydantic message with its input; no clause
for KeyboardInterrupt; `COMMANDS` all imported; a formatter that keeps line breaks; service links taken for typos.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import subprocess
import sys
from typing import NoReturn

import pytest
from pydantic import TypeAdapter

from ops.cli import config, logs
from ops.cli.main import main
from ops.cli.settings import load_settings
from stream.errors import BrokerUnavailable, DejaviewError, SettingError

HEAVY = ("openvino", "pymilvus", "torch", "confluent_kafka")


def failing(error: BaseException) -> object:
    def run(_args: object) -> NoReturn:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingError("kafka.x is wrong"), 2),
        (BrokerUnavailable("no Kafka"), 1),
        (DejaviewError("something else"), 1),
    ],
)
def test_an_error_is_one_message(
    error: DejaviewError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong setting exits with 2, what went wrong outside with 1; the message stands alone on stderr."""
    monkeypatch.setattr(config, "run", failing(error))
    assert main(["config"]) == code
    assert capsys.readouterr().err == f"dejaview: {error}\n"


def test_a_contract_that_is_broken_shows_no_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pydantic error names the place and the rule; what was there may be a secret."""

    def run(_args: object) -> None:
        TypeAdapter(dict[str, int]).validate_python({"token": "hunter2"})

    monkeypatch.setattr(config, "run", run)
    assert main(["config"]) == 1
    said = capsys.readouterr().err
    assert "token" in said
    assert "hunter2" not in said
    assert said.count("\n") == 1


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell expects of an interrupted command; no traceback."""
    monkeypatch.setattr(config, "run", failing(KeyboardInterrupt()))
    assert main(["config"]) == 130
    assert capsys.readouterr().err == ""


def test_windows_is_told_of_wsl2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On Windows itself nothing is tried: exit code 2 and what to install."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["--version"]) == 2
    assert "WSL2" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["config"], ["run", "--help"], ["demo", "--help"]])
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    """The version, the help and the settings come at once: no model runtime, no index, no broker client."""
    program = (
        "import sys; from ops.cli.main import main; code = main(sys.argv[1:]); "
        f"print([name for name in {HEAVY} if name in sys.modules], code, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert ended.stderr == "[] 0\n"


def test_a_record_is_one_line() -> None:
    """A log collector takes a line for a record: a traceback stays on its record's line."""
    error = ValueError("two\nlines")
    record = logging.LogRecord("dejaview", logging.ERROR, "f.py", 1, "failed", None, (ValueError, error, None))
    record.created = record.msecs = 0.0
    line = logs.OneLine("%(asctime)s %(levelname)s %(message)s").format(record)
    assert line.startswith("1970-01-01T00:00:00.000Z ERROR failed\\nValueError: two\\nlines")
    assert "\n" not in line


def test_service_links_are_no_typos() -> None:
    """Kubernetes describes every service `dejaview-…` in variables like settings; outside of a pod they are typos."""
    links = {
        "DEJAVIEW_SERVICE_HOST": "10.0.0.1",
        "DEJAVIEW_ENCODE_SERVICE_PORT_METRICS": "9464",
        "DEJAVIEW_PORT": "tcp://10.0.0.1:9464",
        "DEJAVIEW_PORT_9464_TCP_ADDR": "10.0.0.1",
    }
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.2"}
    assert load_settings(None, [], {**pod, **links}).settings == load_settings(None, [], {}).settings
    with pytest.raises(SettingError, match="DEJAVIEW_SERVICE_HOST"):
        load_settings(None, [], links)
    with pytest.raises(SettingError, match="did you mean DEJAVIEW_HEALTH__PORT"):
        load_settings(None, [], {**pod, "DEJAVIEW_HELTH__PORT": "1"})


@pytest.mark.parametrize("lost_as", [SystemError, TypeError])
def test_an_interrupt_that_a_library_lost_is_one(lost_as: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """confluent-kafka turns a Ctrl-C inside its calls into another error: exit code 130 all the same, and the handler
    of before is back. Without a Ctrl-C the error stays what it is. Break: return the error's own way.
    """
    before = signal.getsignal(signal.SIGINT)

    def run(_args: object, *, interrupted: bool) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            if interrupted:
                signal.raise_signal(signal.SIGINT)
        raise lost_as("returned NULL without setting an exception")

    for interrupted in (True, False):
        monkeypatch.setattr(config, "run", functools.partial(run, interrupted=interrupted))
        if interrupted:
            assert main(["config"]) == 130
        else:
            with pytest.raises(lost_as):
                main(["config"])
        assert signal.getsignal(signal.SIGINT) is before

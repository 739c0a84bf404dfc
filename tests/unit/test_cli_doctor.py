"""`doctor` runs every check, whatever one of them does, and reports without secrets.

Breaks that these tests catch, each tried: `examine` without the thread's time limit; a raised error that ends the
examination; `needs` not looked at; secrets not masked; warnings that count for the exit code; a weights file that is
not hashed.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from models.manifest import BACKGROUND, BUILT_IN, SAFETENSORS
from ops.cli.doctor import masked, secrets_of
from ops.cli.main import main
from ops.doctor import examination
from ops.doctor.intake import DECODER, FILES, S3, intake_checks
from ops.doctor.model import ENCODER, WEIGHTS, ModelChecks
from ops.doctor.report import Check, Finding, State, broken, examine, ok, warning
from ops.doctor.setup import DELIVERY, INSTANCE, KAFKA_FILES, TENANTS, setup_checks
from stream.config import IntakeSettings, KafkaSettings, ModelSettings, Settings, TenantSettings, Thresholds
from stream.errors import BrokerUnavailable

Capture = pytest.CaptureFixture[str]


def states(findings: Sequence[Finding] | Iterator[Finding]) -> dict[str, State]:
    return {finding.check: finding.state for finding in findings}


def raising(error: Exception) -> list[Finding]:
    raise error


def test_every_check_is_run_whatever_one_does() -> None:
    """A check that raises, trips or hangs is broken and bounded; those that need it are not run; all others are."""
    release = threading.Event()

    def hangs() -> list[Finding]:
        release.wait(60)
        return [ok("hangs", "late")]

    checks = [
        Check("away", lambda: raising(BrokerUnavailable("no Kafka")), fix="start it"),
        Check("trips", lambda: raising(KeyError("x"))),
        Check("hangs", hangs, fix="look at its log"),
        Check("needs it", lambda: [ok("needs it", "")], ("away",)),
        Check("needs that", lambda: [ok("needs that", "")], ("fine", "needs it")),
        Check("fine", lambda: [ok("fine", "")]),
        Check("after a warning", lambda: [ok("after a warning", "")], ("fine",)),
    ]
    found = {finding.check: finding for finding in examine(checks, 0.2)}
    release.set()
    assert states(list(found.values())) == {
        "away": State.BROKEN,
        "trips": State.BROKEN,
        "hangs": State.BROKEN,
        "needs it": State.NOT_CHECKED,
        "needs that": State.NOT_CHECKED,
        "fine": State.OK,
        "after a warning": State.OK,
    }
    assert found["away"] == broken("away", "no Kafka", "start it")
    assert found["hangs"] == broken("hangs", "no answer in 0.2 s", "look at its log")
    assert found["needs it"].found == "it needs away"
    assert "KeyError" in found["trips"].found


@pytest.mark.parametrize(
    ("finding", "code"),
    [(ok("a", "x"), 0), (warning("a", "x", "y"), 0), (broken("a", "x", "y"), 1)],
    ids=["ok", "warning", "broken"],
)
def test_only_what_is_broken_fails(
    finding: Finding, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Exit 0 with warnings, 1 with something broken; `--json` is an array of check, state, found and fix."""
    monkeypatch.setattr(examination, "examination", lambda _settings: iter([finding]))
    assert main(["doctor", "--json"]) == code
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {"check": "a", "state": str(finding.state), "found": "x", "fix": finding.fix}
    assert main(["doctor"]) == code
    shown = capsys.readouterr().out
    assert str(finding.state) in shown
    assert "\x1b" not in shown


def test_settings_that_contradict_each_other_are_a_finding(capsys: Capture) -> None:
    """Wrong settings are reported as all else is, and nothing is tried with them."""
    assert main(["doctor", "--json", "--decide.batch_items_max=9", "--decide.window_rows_max=5"]) == 1
    first, rest = json.loads(capsys.readouterr().out)
    assert first["state"] == "broken"
    assert "decide.window_rows_max" in first["found"]
    assert rest["state"] == "not checked"


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """What a server's message repeats of a secret, from a setting, an option or a file, is masked; so is user info."""
    (tmp_path / "password").write_text("from-a-file\n")
    settings = Settings(
        kafka=KafkaSettings(
            options={"sasl.password": "from-an-option", "client.rack": "rack"},
            option_files={"ssl.key.password": tmp_path / "password"},
        ),
        index={"token": "root:from-a-setting"},
    )
    secrets = secrets_of(settings)
    text = "from-a-file from-an-option root:from-a-setting at https://user:pw@host rack"
    assert masked(text, secrets) == "*** *** *** at https://***@host rack"
    leak = broken("index", "refused root:from-a-setting", "not root:from-a-setting")
    monkeypatch.setattr(examination, "examination", lambda _settings: iter([leak]))
    for form in (["--json"], []):
        assert main(["doctor", *form, "--index.token=root:from-a-setting"]) == 1
        said = capsys.readouterr()
        assert "from-a-setting" not in said.out + said.err


def test_a_servers_message_does_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Control characters in what was found are replaced, markup is text."""
    finding = broken("a", "\x1b[2J[red]x", "\x07")
    monkeypatch.setattr(examination, "examination", lambda _settings: iter([finding]))
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]x" in shown


def test_settings_are_judged(tmp_path: Path) -> None:
    """Delivery, the instance id, the tenants and unreadable files are each said, with the setting's name."""
    healthy = Settings(instance_id="a")
    assert set(states(examine(setup_checks(healthy), 5)).values()) == {State.OK}
    (tmp_path / "empty").write_text("\n")
    wrong = Settings(
        tenants=TenantSettings(allowed=[], thresholds={"t": Thresholds(duplicate=0.5, review=0.4)}),
        kafka=KafkaSettings(
            option_files={"sasl.password": tmp_path / "absent", "ssl.key.password": tmp_path / "empty"}
        ),
    )
    found = list(examine(setup_checks(wrong), 5))
    assert states(found) == {
        DELIVERY: State.OK, INSTANCE: State.WARNING, TENANTS: State.WARNING, KAFKA_FILES: State.BROKEN
    }  # fmt: skip
    assert len([finding for finding in found if finding.check == TENANTS]) == 2
    said = [finding.found for finding in found if finding.check == KAFKA_FILES]
    assert "kafka.option_files sasl.password" in said[0]
    assert "is empty" in said[1]
    assert states(examine(setup_checks(Settings(delivery="at_least_once")), 5))[DELIVERY] is State.WARNING


def test_intake_is_tried(tmp_path: Path) -> None:
    """A made picture of each format goes through a real child process; a missing folder and credentials are named."""
    assert set(states(examine(intake_checks(IntakeSettings(file_roots=[tmp_path])), 60)).values()) == {State.OK}
    absent = tmp_path / "absent"
    wrong = IntakeSettings(
        file_roots=[tmp_path, absent],
        s3_buckets=["b"],
        s3_access_key_id="x",
        side_max=8_000,
        decode_memory_bytes=1_000_000,
    )
    found = {finding.check: finding for finding in examine(intake_checks(wrong), 60)}
    assert {name for name, finding in found.items() if finding.state is State.BROKEN} == {FILES, S3, DECODER}
    assert str(absent) in found[FILES].found
    assert "intake.s3_secret_access_key" in found[S3].found


def test_the_shipped_model_is_whole() -> None:
    """All files have their SHA-256, and this machine's runtime reproduces the golden vectors."""
    model = ModelChecks(ModelSettings(threads=1))
    assert set(states(examine(model.checks(), 60)).values()) == {State.OK}
    assert model.model_id


@pytest.mark.parametrize("file", [BACKGROUND, SAFETENSORS])
def test_a_wrong_weights_file_is_named(file: str, tmp_path: Path) -> None:
    """A flipped byte is found by its file's SHA-256, also where this runtime does not read it; nothing is computed."""
    folder = tmp_path / "weights"
    shutil.copytree(BUILT_IN, folder)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(bytes(content))
    found = {f.check: f for f in examine(ModelChecks(ModelSettings(weights=folder)).checks(), 60)}
    assert found[WEIGHTS].state is State.BROKEN
    assert file in found[WEIGHTS].found
    assert found[ENCODER].state is State.NOT_CHECKED

"""Settings come from defaults, file, environment and flags, later wins; every mistake is named, no secret is shown.

Breaks that these tests catch, each tried: sources merged in another order; `_deep` replacing tables; the mask of
`shown` after the question whether a value is a number; `_QUOTED` left out; unknown variables skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.cli.config import markdown
from ops.cli.fields import setting_fields
from ops.cli.main import main
from ops.cli.settings import Loaded, load_settings
from ops.cli.sources import take_flags
from stream.errors import SettingError
from stream.kafka import Admin

SECRET = "hunter2hunter2"


def load(tmp_path: Path, yaml: str = "", flags: tuple[str, ...] = (), environ: dict[str, str] | None = None) -> Loaded:
    file = tmp_path / "dejaview.yaml"
    file.write_text(yaml)
    return load_settings(file, flags, environ or {})


def problem(tmp_path: Path, yaml: str = "", flags: tuple[str, ...] = (), environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingError) as caught:
        load(tmp_path, yaml, flags, environ)
    return str(caught.value)


def test_later_sources_win_and_each_origin_is_known(tmp_path: Path) -> None:
    """Flags over environment over file over defaults, for one setting each."""
    yaml = "kafka: {group_prefix: file, session_timeout_s: 7, request_timeout_s: 40}"
    environ = {"DEJAVIEW_KAFKA__GROUP_PREFIX": "environment", "DEJAVIEW_KAFKA__SESSION_TIMEOUT_S": "8"}
    loaded = load(tmp_path, yaml, ("--kafka.group_prefix", "flag"), environ)
    kafka = loaded.settings.kafka
    assert (kafka.group_prefix, kafka.session_timeout_s, kafka.request_timeout_s) == ("flag", 8.0, 40.0)
    assert loaded.origins["kafka.group_prefix"] == "flag --kafka.group_prefix"
    assert loaded.origins["kafka.session_timeout_s"] == "environment DEJAVIEW_KAFKA__SESSION_TIMEOUT_S"
    assert loaded.origins["kafka.request_timeout_s"] == f"file {tmp_path / 'dejaview.yaml'}"
    assert loaded.origins["kafka.transaction_timeout_s"] == "default"


def test_the_file_is_named_by_the_environment_too(tmp_path: Path) -> None:
    """$DEJAVIEW_CONFIG is read when there is no --config, and $DEJAVIEW_CACHE is no setting."""
    file = tmp_path / "other.yaml"
    file.write_text("drain_s: 3")
    environ = {"DEJAVIEW_CONFIG": str(file), "DEJAVIEW_CACHE": "/tmp/x"}
    assert load_settings(None, (), environ).settings.drain_s == 3
    with pytest.raises(SettingError, match=r"absent\.yaml: No such file"):
        load_settings(tmp_path / "absent.yaml", (), environ)


def test_tables_are_joined_across_sources(tmp_path: Path) -> None:
    """kafka.options of the file and of the environment are one table; lists are replaced."""
    yaml = "kafka: {options: {a.b: '1', c.d: '2'}}\nintake: {s3_buckets: [one, two]}"
    environ = {"DEJAVIEW_KAFKA__OPTIONS": '{"c.d": "3", "e.f": "4"}', "DEJAVIEW_INTAKE": '{"s3_buckets": ["three"]}'}
    loaded = load(tmp_path, yaml, (), environ)
    assert loaded.settings.kafka.options == {"a.b": "1", "c.d": "3", "e.f": "4"}
    assert loaded.settings.intake.s3_buckets == ["three"]
    assert loaded.origins["kafka.options"].count(",") == 1


@pytest.mark.parametrize(
    ("yaml", "flags", "environ", "named"),
    [
        ("kafka: {bootstrap_server: x}", (), {}, "did you mean kafka.bootstrap_servers?"),
        ("", ("--kafka.bootstrap_server=x",), {}, "did you mean kafka.bootstrap_servers?"),
        ("", (), {"DEJAVIEW_KAFKA__BOOTSTRAP_SERVER": "x"}, "did you mean DEJAVIEW_KAFKA__BOOTSTRAP_SERVERS?"),
        ("", (), {"DEJAVIEW_KAFKA_BOOTSTRAP_SERVERS": "x"}, "did you mean DEJAVIEW_KAFKA__BOOTSTRAP_SERVERS?"),
        ("kafak: {}", (), {}, "kafak (file"),
        ("kafka: here", (), {}, "this is a section"),
        ("- a", (), {}, "must hold sections"),
        ("", ("--kafka.group_prefix",), {}, "--kafka.group_prefix needs a value"),
        ("", ("--intake.s3_buckets=a",), {}, "must be JSON"),
    ],
)
def test_a_typo_is_an_error_that_names_the_nearest_setting(
    tmp_path: Path, yaml: str, flags: tuple[str, ...], environ: dict[str, str], named: str
) -> None:
    """A misspelt setting is never ignored, wherever it stands."""
    assert named in problem(tmp_path, yaml, flags, environ)


def test_a_wrong_value_is_named_with_its_origin(tmp_path: Path) -> None:
    """The message has the setting, the value, where it came from and the rule; all problems at once."""
    text = problem(tmp_path, "health: {port: 99999}", ("--delivery=maybe",))
    assert "2 settings are wrong" in text
    assert f"health.port = 99999 (file {tmp_path / 'dejaview.yaml'}): must be less than or equal to 65535" in text
    assert "delivery = maybe (flag --delivery)" in text


def test_contradicting_settings_name_both(tmp_path: Path) -> None:
    """A relation between settings says where both came from."""
    text = problem(tmp_path, "intake: {bytes_max: 300000000}")
    assert "intake.bytes_max" in text
    assert "encode.in_flight_bytes_max: default" in text


SECRETS = {
    "token": f"index: {{token: {SECRET}}}",
    "s3 key": f"intake: {{s3_secret_access_key: {SECRET}}}",
    "option": f"kafka: {{options: {{sasl.password: {SECRET}}}}}",
    "producer option": f"kafka: {{producer_options: {{ssl.key.password: {SECRET}}}}}",
    "address": f"index: {{uri: 'http://root:{SECRET}@milvus:19530'}}",
    "endpoint": f"intake: {{s3_endpoint: 'https://key:{SECRET}@store'}}",
}


@pytest.mark.parametrize("yaml", SECRETS.values(), ids=list(SECRETS))
@pytest.mark.parametrize("form", ["--json", None])
def test_no_secret_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], yaml: str, form: str | None) -> None:
    """`dejaview config` masks secrets in its table and in its JSON, and says that one is set."""
    file = tmp_path / "secret.yaml"
    file.write_text(yaml)
    assert main(["config", "--config", str(file), *([form] if form else [])]) == 0
    shown = capsys.readouterr().out
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("yaml", "flags", "environ"),
    [
        ("index: {token: 8275928759}", (), {}),
        ("index: {token: [8275928759]}", (), {}),
        ("kafka: {options: {sasl.password: 8275928759}}", (), {}),
        ("kafka: {options: {sasl.password: {x: 8275928759}}}", (), {}),
        ("kafka: {options: 8275928759}", (), {}),
        ("", ("--kafka.options=sasl.password=8275928759",), {}),
        ("", (), {"DEJAVIEW_KAFKA__OPTIONS": '{"sasl.password": 8275928759}'}),
        ("", (), {"DEJAVIEW_INDEX": "token=8275928759"}),
        ("", (), {"DEJAVIEW_INDEX__TOKN": "8275928759"}),
        ("", ("--index.tokn=8275928759",), {}),
        ("index: {token: *8275928759}", (), {}),
        ("index: {token: !8275928759 x}", (), {}),
        ("index: {uri: 'http://u:8275928759@h', search_ef: 1}", (), {}),
    ],
)
def test_no_secret_is_in_an_error(tmp_path: Path, yaml: str, flags: tuple[str, ...], environ: dict[str, str]) -> None:
    """What is wrong with a secret is said without it."""
    assert "8275928759" not in problem(tmp_path, yaml, flags, environ)


def test_the_origins_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dejaview config --json` has every setting with its value and origin."""
    file = tmp_path / "f.yaml"
    file.write_text("drain_s: 5")
    assert main(["config", "--json", "--config", str(file), "--health.port", "0"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == set(setting_fields())
    assert shown["drain_s"] == {"value": 5.0, "origin": f"file {file}"}
    assert shown["health.port"] == {"value": 0, "origin": "flag --health.port"}
    assert shown["index.token"]["value"] == ""


def test_the_settings_for_the_readme_have_a_row_each() -> None:
    """`config --markdown` is a table of three columns, one row a setting, whatever a default contains."""
    head, _, *rows = markdown().splitlines()
    assert len(rows) == len(setting_fields())
    assert all(row.replace(r"\|", "").count("|") == head.count("|") for row in rows)


def test_flags_of_settings_are_told_from_arguments() -> None:
    """The value of a setting's flag is never taken for a file."""
    rest, flags = take_flags(["send", "--kafka.group_prefix", "x", "a.jpg", "--drain_s=3", "--", "--health.port"])
    assert rest == ["send", "a.jpg", "--", "--health.port"]
    assert flags == ["--kafka.group_prefix", "x", "--drain_s=3"]


def test_a_secret_file_that_cannot_be_read_names_its_setting(tmp_path: Path) -> None:
    """A missing secret is a setting's error, not a traceback. Break: read the file unguarded."""
    missing = tmp_path / "password"
    flags = ("--kafka.option_files", json.dumps({"sasl.password": str(missing)}))
    settings = load(tmp_path, flags=flags).settings
    with pytest.raises(SettingError, match=r"kafka\.option_files sasl\.password: .* cannot be read"):
        Admin(settings)

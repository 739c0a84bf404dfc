"""The settings themselves: what they say that cannot be meant, and whether their files can be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ops.doctor.report import Check, Finding, broken, ok, or_ok, warning
from stream.config import Settings
from stream.errors import SettingError
from stream.secrets import read_secret_file

DELIVERY, INSTANCE, TENANTS = "delivery", "instance id", "tenants"
KAFKA_FILES, INDEX_FILES, INTAKE_FILES = "kafka files", "index files", "intake files"


def setup_checks(settings: Settings) -> list[Check]:
    checks = [
        Check(DELIVERY, lambda: [judge_delivery(settings)]),
        Check(INSTANCE, lambda: [judge_instance(settings)]),
        Check(TENANTS, lambda: judge_tenants(settings)),
    ]
    files: dict[str, dict[str, Path | None]] = {
        KAFKA_FILES: {f"kafka.option_files {name}": f for name, f in settings.kafka.option_files.items()},
        INDEX_FILES: {"index.token_file": settings.index.token_file, "index.server_pem": settings.index.server_pem},
        INTAKE_FILES: {"intake.s3_secret_access_key_file": settings.intake.s3_secret_access_key_file},
    }
    for check, of_settings in files.items():
        named = {setting: file for setting, file in of_settings.items() if file is not None}
        if named:
            checks.append(Check(check, lambda check=check, named=named: judge_files(check, named)))  # type: ignore[misc]
    return checks


def judge_delivery(settings: Settings) -> Finding:
    if settings.delivery == "exactly_once":
        return ok(DELIVERY, "exactly_once")
    return warning(
        DELIVERY,
        "at_least_once: a crash or a rebalance may answer an upload twice, or with two representatives",
        "set delivery to exactly_once, unless this runs on the embedded broker",
    )


def judge_instance(settings: Settings) -> Finding:
    if settings.delivery != "exactly_once":
        return ok(INSTANCE, "not needed for at_least_once")
    if settings.instance_id:
        return ok(INSTANCE, settings.instance_id)
    return warning(
        INSTANCE,
        "not set: after a crash readers of the verdicts wait up to kafka.transaction_timeout_s "
        f"({settings.kafka.transaction_timeout_s:g} s) for what the dead worker left open",
        "set instance_id to a name that each worker keeps over restarts and shares with no other",
    )


def judge_tenants(settings: Settings) -> list[Finding]:
    allowed, thresholds = settings.tenants.allowed, settings.tenants.thresholds
    if allowed is None:
        return [ok(TENANTS, "open: every well-formed tenant is taken")]
    findings = []
    if not allowed:
        findings.append(warning(TENANTS, "tenants.allowed is empty: every upload is a dead letter", "list the tenants"))
    unlisted = [name for name in thresholds if name not in allowed]
    if unlisted:
        findings.append(
            warning(
                TENANTS,
                f"tenants.thresholds names {', '.join(unlisted)}, which tenants.allowed does not",
                "add them to tenants.allowed, or drop their thresholds",
            )
        )
    return or_ok(findings, TENANTS, f"closed list of {len(allowed)}")


def judge_files(check: str, named: Mapping[str, Path]) -> list[Finding]:
    """Whether each file can be read and holds something. Its content goes nowhere."""
    findings = []
    for setting, file in named.items():
        try:
            content = read_secret_file(file, setting)
        except SettingError as error:
            findings.append(broken(check, str(error), f"let this user read {file}, or correct {setting}"))
            continue
        if not content:
            findings.append(broken(check, f"{setting}: {file} is empty", f"write the value into {file}"))
    return or_ok(findings, check, f"readable: {', '.join(named)}")

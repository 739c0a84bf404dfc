"""What ENCODE takes pictures from and decodes them with."""

from __future__ import annotations

import io

from PIL import Image

from ops.doctor.report import Check, Finding, broken, ok, or_ok
from ops.doctor.setup import INTAKE_FILES
from stream.config import IntakeSettings
from stream.errors import ItemError, SettingError
from stream.intake.files import FileStore
from stream.intake.sandbox import DecoderPool

FILES, S3, HTTPS, DECODER = "file:// references", "s3:// references", "https:// references", "decoder"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_SIDE = 64


def intake_checks(settings: IntakeSettings) -> list[Check]:
    return [
        Check(FILES, lambda: look_at_files(settings), fix="create the folder, mount it, or take it off the list"),
        Check(
            S3,
            lambda: look_at_s3(settings),
            (INTAKE_FILES,),
            "pip install 'dejaview[s3]' and give credentials: intake.s3_access_key_id, or where boto3 looks",
        ),
        Check(HTTPS, lambda: [ok(HTTPS, _hosts(settings))]),
        Check(
            DECODER,
            lambda: look_at_decoder(settings),
            fix="raise intake.decode_memory_bytes or the process limits of this user; see the message",
        ),
    ]


def look_at_files(settings: IntakeSettings) -> list[Finding]:
    """Every folder, also beside one that is missing."""
    if not settings.file_roots:
        return [ok(FILES, "off: intake.file_roots is empty")]
    findings = []
    for root in settings.file_roots:
        try:
            FileStore([root], settings.bytes_max)
        except SettingError as error:
            findings.append(broken(FILES, str(error), f"create or mount {root}, or take it off intake.file_roots"))
    return or_ok(findings, FILES, ", ".join(map(str, settings.file_roots)))


def look_at_s3(settings: IntakeSettings) -> list[Finding]:
    """boto3 and credentials; no object is asked for: which ones there are is not known.

    Raises:
        SettingError: boto3 or the credentials are missing.
    """
    if not settings.s3_buckets:
        return [ok(S3, "off: intake.s3_buckets is empty")]
    # Its module needs the extra `s3`.
    from stream.intake.s3 import S3Store  # noqa: PLC0415

    S3Store(settings)
    return [ok(S3, f"boto3 and credentials for {', '.join(settings.s3_buckets)}; no object was asked for")]


def look_at_decoder(settings: IntakeSettings) -> list[Finding]:
    """One decoder process with the limits of the settings, and a made picture in each format.

    Raises:
        SandboxUnavailable: no process starts.
    """
    pool = DecoderPool(settings.model_copy(update={"decoders": 1}))
    try:
        findings = []
        for form in FORMATS:
            try:
                pool.decode(_picture(form))
            except ItemError as error:
                findings.append(broken(DECODER, f"a made {form} picture: {error}", _fix(settings)))
    finally:
        pool.close()
    return or_ok(findings, DECODER, f"a child process decodes {', '.join(FORMATS)}")


def _fix(settings: IntakeSettings) -> str:
    return (
        f"raise intake.decode_memory_bytes ({settings.decode_memory_bytes}), intake.decode_cpu_s or "
        "intake.decode_wall_s, or install Pillow anew"
    )


def _hosts(settings: IntakeSettings) -> str:
    return ", ".join(settings.https_hosts) if settings.https_enabled else "off: intake.https_enabled is false"


def _picture(form: str) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((_SIDE, _SIDE)).convert("RGB").save(out, form)
    return out.getvalue()

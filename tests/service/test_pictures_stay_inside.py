"""A moderator's picture, and what a sender wrote beside it, reach neither logs nor metrics; labels are few.

The embedded broker and Milvus Lite: all three loops run, in this process, with every logger at debug.
"""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from prometheus_client.exposition import generate_latest

from ops.demo.embedded import embedded_service, raise_failure, wait_until_ready
from schemas.events import Reason, VerdictKind
from stream import errors
from stream.commit import OutcomeUnknown
from stream.indexview import IndexFellBack
from stream.kafka import LogProducer, Outgoing
from stream.metrics import Metrics
from stream.service import ALL_STAGES, Service
from tests.support.deployment import until
from tests.support.photos import jpeg, photo

MARK = "mArKeR5527"
RAW = MARK.encode()
ROOT = Path(__file__).parents[2]
HOSTILE = ("plain", "a\nERROR forged", 'x" or tenant != "', "{}%s", "\u202etxt", "\x00", "é" * 300, "</metric>")

STAGES = {str(stage) for stage in ALL_STAGES}
STEPS = {"search", "judge", "progress", "commit", "publish", "encode", "check", "insert", "link", "fetch", "decode"}
CAUSES = {name for name, value in vars(errors).items() if isinstance(value, type)} | {
    OutcomeUnknown.__name__,
    IndexFellBack.__name__,
}
# Label -> its values, all of them; None: one value in a process's life.
LABELS: dict[str, set[str] | None] = {
    "stage": STAGES,
    "step": STEPS,
    "reason": {str(reason) for reason in Reason},
    "verdict": {str(verdict) for verdict in VerdictKind},
    "cause": CAUSES,
    "le": None,
    "version": None,
    "model_id": None,
    "runtime": {"none", "tensorrt", "tensorrt-rtx", "torch-cuda", "openvino", "torch"},
    "why": {str(why) for why in errors.PassedOver},
}
# What may stand between the brackets of `.labels(…)`.
ARGUMENTS = {
    "STAGE", "stage", "step", "reason", "verdict", "'encode'", "'none'", "type(error).__name__",
    "entry.dead_letter.reason", "verdict.verdict", "package_version()", "self.model.model_id",
    "chosen.encoder.runtime", "one.runtime", "one.why",
}  # fmt: skip


def pictures() -> list[bytes]:
    """Good and bad pictures that carry the mark wherever a format lets them."""
    image = photo("astronaut.png")
    exif = Image.Exif()
    exif[0x010E], exif[0x9286] = MARK, MARK
    with_exif, with_text = io.BytesIO(), io.BytesIO()
    image.save(with_exif, "JPEG", exif=exif, comment=RAW)
    text = PngImagePlugin.PngInfo()
    text.add_text(MARK, MARK, zip=True)
    image.save(with_text, "PNG", pnginfo=text)
    cut = with_exif.getvalue()[:900] + RAW
    return [with_exif.getvalue(), with_text.getvalue(), jpeg(image) + RAW, cut, RAW, b"GIF89a" + RAW, b"RIFF" + RAW]


def records(topic: str, made: Sequence[bytes]) -> Iterator[Outgoing]:
    """Every picture from hostile tenants and under hostile ids, and events that are broken in a marked place."""
    for number, picture in enumerate(made):
        name = HOSTILE[number % len(HOSTILE)]
        yield event(topic, picture, f"{number}-{name}", "plain", "image/png")
        yield event(topic, picture, f"{number}-b", name, f"image/{MARK}")
    yield event(topic, b'{"uri": "file:///' + RAW + b'"}', "reference", "plain", "application/json")
    yield event(topic, b'{"uri": ' + RAW, "json", "plain", "application/json")
    yield event(topic, RAW, "type", "plain", MARK)
    yield Outgoing(topic, RAW, [(MARK, RAW), ("ce_specversion", RAW)], 0)
    yield Outgoing(topic, RAW, [], 0)


def event(topic: str, value: bytes, upload_id: str, tenant: str, content_type: str) -> Outgoing:
    headers = {
        "ce_specversion": "1.0", "ce_type": "dejaview.upload.v1", "ce_source": f"/{MARK}", "ce_id": upload_id,
        "ce_tenant": tenant, "ce_subject": MARK, "traceparent": MARK, "content-type": content_type, f"x-{MARK}": MARK,
    }  # fmt: skip
    return Outgoing(topic, value, [(name, text.encode()) for name, text in headers.items()], 0)


@pytest.fixture
def judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[tuple[Service, str]]:
    """A service that has judged all of it, and everything it said."""
    # Before the loggers are open: Pillow, which makes them here, says what it writes.
    made = pictures()
    caplog.set_level(logging.DEBUG)
    with embedded_service(tmp_path, tmp_path) as service:
        wait_until_ready(service)
        sent = list(records(service.settings.topics.uploads, made))
        producer = LogProducer(service.settings)
        producer.produce(sent)
        producer.flush()

        def answered() -> bool:
            raise_failure(service)
            return answers(service.metrics) == len(sent)

        until(answered, 90, lambda: f"{answers(service.metrics)} of {len(sent)}: {caplog.text[-2000:]}")
        yield service, caplog.text + "".join(capfd.readouterr()) + (str(service.health.missing()))


def answers(metrics: Metrics) -> float:
    counted = ("dejaview_verdicts_total", "dejaview_dead_letters_total")
    return sum(s.value for family in metrics.registry.collect() for s in family.samples if s.name in counted)


@pytest.mark.timeout(180)
def test_nothing_of_a_picture_is_said(judged: tuple[Service, str]) -> None:
    """Bytes, EXIF, comments, text chunks, headers and references: none is in a log, in /metrics or in /readyz.

    Breaks, each tried: log a record's headers in ENCODE; a label with the tenant.
    """
    service, said = judged
    shown = generate_latest(service.metrics.registry).decode()
    assert 'dejaview_verdicts_total{verdict="unique"} 0.0' not in shown
    assert answers(service.metrics) > 10
    assert MARK not in said + shown
    assert RAW.hex() not in said + shown
    for name in HOSTILE[1:]:
        assert name not in shown
    for name, values in labels_of(service.metrics):
        allowed = LABELS[name]
        assert allowed is None or values <= allowed, f"{name}: {values - allowed}"


def labels_of(metrics: Metrics) -> Iterator[tuple[str, set[str]]]:
    for family in metrics.registry.collect():
        for sample in family.samples:
            for name, value in sample.labels.items():
                yield name, {value}


def test_labels_are_given_from_fixed_sets_only() -> None:
    """Every `.labels(…)` in the program takes a stage, a step, a reason, a verdict or the name of a class.

    Break: `.labels(tenant)` anywhere.
    """
    found = set()
    for path in (*ROOT.glob("stream/**/*.py"), *ROOT.glob("ops/**/*.py"), *ROOT.glob("models/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "labels":
                found |= {ast.unparse(argument) for argument in (*node.args, *(k.value for k in node.keywords))}
    assert found <= ARGUMENTS, found - ARGUMENTS
    assert len(found) > 5


def test_steps_are_fixed() -> None:
    """Every `timed(…)` names its step in the source. Break: an f-string there."""
    for path in ROOT.glob("stream/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "timed":
                step = node.args[1]
                assert isinstance(step, ast.Constant), f"{path}:{node.lineno}"
                assert step.value in STEPS


def test_every_metric_is_looked_at() -> None:
    """A label that is new must be listed here with its values. Break: add one to `Metrics`."""
    names = {name for value in vars(Metrics()).values() for name in getattr(value, "_labelnames", ())}
    assert names <= set(LABELS)

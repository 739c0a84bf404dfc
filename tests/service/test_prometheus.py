"""R13 on real servers: a real Prometheus sees the service, an alert follows an outage, every panel shows something."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from threading import Event, Thread

import pytest

from charts.dashboards import dashboards
from charts.generate import CHART
from charts.levels import STALE_S
from ops.local.errors import LocalError
from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from tests.support.deployment import Deployment, SentUpload, Worker, until
from tests.support.missing import is_missing
from tests.support.photos import mixture
from tests.support.prometheus import Prometheus, program, shortened, without_variables

pytestmark = pytest.mark.timeout(420)

STALE_NOW_S = 5
PICTURES = 120
UNREACHABLE, WAIT = ("DejaviewIndexUnreachable", "ticket"), ("DejaviewUploadsWait", "page")
RATE_INTERVAL = "10s"
# Nothing of this happens here, or it is over before it is read.
MAY_BE_ZERO = {
    "Alerts firing", "Bytes in flight", "Decoder processes replaced", "Error budgets used, 3 days",
    "Failed calls to Kafka", "Partitions taken anew", "Repeats", "Rows", "Share of review, 6 h",
    "Share within 0.05 of the threshold", "Uploads in flight", "Uploads in flight in ENCODE",
}  # fmt: skip


class Panels:
    """Which queries of the dashboards have shown nothing yet, or only zero where the load makes something of it."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.left = {
            (name, panel["title"], target["expr"])
            for name, content in dashboards().items()
            for panel in content["panels"]
            for target in panel.get("targets", ())
        }

    def look(self) -> None:
        """Leave out those that show something now."""
        self.left = {one for one in self.left if not self._shows(one[1], one[2])}

    def _shows(self, title: str, expr: str) -> bool:
        found = self._prometheus.query(without_variables(expr, RATE_INTERVAL))
        values = [value for value in found if not math.isnan(value)]
        return any(values) or (bool(values) and title in MAY_BE_ZERO)


@contextmanager
def load(deployment: Deployment) -> Iterator[None]:
    """Photographs, edits and what is no picture, three a second, until the end."""
    over = Event()
    pictures = mixture(PICTURES, 17)

    def paced() -> Iterator[SentUpload]:
        for number, (name, value) in enumerate(cycle(pictures)):
            broken = number % 10 == 9
            yield SentUpload(f"{number}-{name}", value[:500] if broken else value, "t", number % 4)
            if over.wait(0.33):
                return

    thread = Thread(target=deployment.send, args=(paced(),), name="load")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def rules(tmp_path: Path) -> list[Path]:
    """The chart's rules, thirty times as fast."""
    try:
        program("prometheus")
    except LocalError as error:
        is_missing(str(error))
    made = []
    for path in sorted((CHART / "files" / "rules").glob("*.yaml")):
        made.append(tmp_path / path.name)
        made[-1].write_text(shortened(path.read_text(), STALE_S, STALE_NOW_S))
    return made


@pytest.fixture
def running(kafka: KafkaServer, milvus_server: MilvusServer, tmp_path: Path) -> Iterator[tuple[Deployment, Worker]]:
    index = {"timeout_s": 3, "retry_wait_max_s": 0.5}
    deployment = Deployment.create(tmp_path, kafka.bootstrap, milvus_server.uri, index=index)
    worker = deployment.start("a")
    worker.wait_ready()
    yield deployment, worker
    deployment.close()


def test_an_outage_fires_its_alerts_and_its_end_resolves_them(
    running: tuple[Deployment, Worker], rules: list[Path], milvus_server: MilvusServer, tmp_path: Path
) -> None:
    """Milvus hangs under load: the page and the ticket are pending, then fire, then resolve. Meanwhile every panel's
    query shows something. Breaks: count no index errors in `DecideStage._throw_away`; a wrong label in a panel's query.
    """
    deployment, worker = running
    seen: dict[tuple[str, str], list[str]] = {UNREACHABLE: [], WAIT: []}
    with Prometheus(tmp_path, [worker.port], rules) as prometheus, load(deployment):
        until(lambda: prometheus.get("status/runtimeinfo") is not None, 60)
        panels = Panels(prometheus)

        def states() -> dict[tuple[str, str], str]:
            panels.look()
            found = prometheus.alerts()
            for alert in seen.keys() & found.keys():
                seen[alert].append(found[alert])
            return {alert: state for alert, state in found.items() if alert in seen}

        until(lambda: states() == {} and prometheus.query("sum(dejaview_verdict_margin_count)") > [3.0], 90,
              lambda: str(prometheus.alerts()))  # fmt: skip
        for states_seen in seen.values():
            states_seen.clear()
        milvus_server.suspend()
        try:
            until(lambda: list(states().values()) == ["firing", "firing"], 90,
                  lambda: f"{seen} {prometheus.alerts()}")  # fmt: skip
        finally:
            milvus_server.resume()
        assert [list(dict.fromkeys(was)) for was in seen.values()] == [["pending", "firing"]] * 2
        until(lambda: states() == {}, 120, lambda: str(prometheus.alerts()))
        until(lambda: states() == {} and not panels.left, 90, lambda: f"{panels.left} {prometheus.alerts()}")

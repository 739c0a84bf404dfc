"""The overview's picture for the README: `python -m tests.monitoring.overview OUT.png`.

Real Kafka, Milvus, workers and Prometheus, the chart's rules and queries; five minutes of photographs and edits, with
an outage of Milvus among them. Only the drawing is not Grafana's, which cannot be installed everywhere.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from charts.dashboards import dashboards
from charts.generate import CHART
from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from tests.support.deployment import Deployment, SentUpload
from tests.support.photos import mixture
from tests.support.picture import Series, draw
from tests.support.prometheus import Prometheus, without_variables

MINUTES = 5
OUTAGE_S, OUTAGE_AT_S = 20, 150
PER_S, TENANTS, PICTURES = 20, 5, 400
STEP_S = 5
RATE_INTERVAL = "30s"


def paced(milvus: MilvusServer) -> Iterator[SentUpload]:
    """Twenty uploads a second, every fiftieth broken; Milvus hangs once."""
    begun, hanging = time.monotonic(), False
    for number, (name, value) in enumerate(cycle(mixture(PICTURES, 17))):
        passed = time.monotonic() - begun
        if passed > 60 * MINUTES:
            return
        if hanging != (OUTAGE_AT_S <= passed < OUTAGE_AT_S + OUTAGE_S):
            hanging = not hanging
            (milvus.suspend if hanging else milvus.resume)()
        content = value[:500] if number % 50 == 49 else value
        yield SentUpload(f"{number}-{name}", content, f"tenant-{number % TENANTS}", number % 4)
        time.sleep(max(0.0, begun + number / PER_S - time.monotonic()))


def main(out: Path) -> None:
    """Run it all and draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kafka, milvus = KafkaServer(folder / "kafka"), MilvusServer(folder / "milvus")
        kafka.start()
        milvus.start()
        deployment = Deployment.create(folder, kafka.bootstrap, milvus.uri)
        try:
            workers = [deployment.start(stage, stage) for stage in ("encode", "decide", "index")]
            for worker in workers:
                worker.wait_ready()
            rules = sorted((CHART / "files" / "rules").glob("*.yaml"))
            with Prometheus(folder, [worker.port for worker in workers], rules) as prometheus:
                begun = time.time()
                deployment.send(paced(milvus))

                def ask(expr: str) -> Series:
                    return prometheus.history(without_variables(expr, RATE_INTERVAL), begun, time.time(), STEP_S)

                empty = draw(dashboards()["overview"], ask, out)
        finally:
            deployment.close()
            milvus.stop()
            kafka.stop()
    sys.stdout.write(f"{out}{'; nothing to show: ' + ', '.join(empty) if empty else ''}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

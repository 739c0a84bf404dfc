"""Never fail open: while Milvus does not answer there is no verdict, and afterwards everything is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from tests.support.deployment import Deployment, SentUpload, until
from tests.support.photos import jpeg, photo

pytestmark = pytest.mark.timeout(240)


def test_no_verdict_while_the_index_hangs(kafka: KafkaServer, milvus_server: MilvusServer, tmp_path: Path) -> None:
    """R4: Milvus hangs with uploads in flight: nothing is judged, /readyz says why, /livez holds; then all is judged.

    Break: return no hits instead of raising `IndexUnavailable` in `MilvusIndex.search`.
    """
    deployment = Deployment.create(tmp_path, kafka.bootstrap, milvus_server.uri, index={"timeout_s": 2})
    try:
        worker = deployment.start("a")
        worker.wait_ready()
        values = [jpeg(photo(name)) for name in ("coffee.png", "rocket.jpg", "astronaut.png")]
        before = deployment.send(SentUpload(f"before-{n}", value, "t", n) for n, value in enumerate(values))
        deployment.wait_judged(before)
        milvus_server.suspend()
        try:
            during = deployment.send(SentUpload(f"during-{n}", values[n % 3], "t", n % 4) for n in range(12))
            fingerprints = deployment.settings.topics.fingerprints
            until(lambda: len(deployment.read(fingerprints)) == before + during, 60)
            until(lambda: "decide index" in worker.get("/readyz")[1], 30)
            assert worker.get("/readyz")[0] == 503
            assert deployment.judged() == before
            assert worker.get("/livez")[0] == 200
        finally:
            milvus_server.resume()
        deployment.wait_judged(before + during)
        assert {str(v.verdict) for v in deployment.verdicts() if v.upload_id.startswith("during")} == {"duplicate"}
        worker.wait_ready()
        assert worker.terminate() == 0
    finally:
        deployment.close()

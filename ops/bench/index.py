"""INDEX alone: ledger entries are on the topic; beside the bare insert loop into the same Milvus."""

from __future__ import annotations

from collections.abc import Sequence

from models.model import load_model
from ops.bench.cost import Meter, resident_bytes
from ops.bench.records import fingerprint, ledger_entry, publish, tenant_of
from ops.bench.result import Figure, Part
from ops.bench.rig import Deployment, Rig, until
from ops.bench.search import Filled
from ops.bench.vectors import ground_of, like

NOTE = "Every entry is a new picture's; HNSW. Beside it: inserts of as many rows at once as INDEX makes, nothing else."


def measure(rig: Rig, photos: Sequence[bytes], count: int) -> Part:
    """Rows/s of this many entries."""
    with Deployment(rig) as deployment:
        filled = Filled(deployment, ground_of(photos, 1, count), load_model())
        filled.close()
    return Part("index", "INDEX alone", NOTE, _stage(rig, photos, count, filled.inserted_per_s))


def _stage(rig: Rig, photos: Sequence[bytes], count: int, bare: float) -> list[Figure]:
    model, vectors = load_model(), like(ground_of(photos, 1, len(photos)).rows, count, seed=2)
    with Deployment(rig) as deployment:
        made = [
            fingerprint(n, f"upload-{n}", tenant_of(n), vector, bias, deployment, model)
            for n, (vector, bias) in enumerate(zip(vectors, model.background.bias(vectors), strict=True))
        ]
        entries = [ledger_entry(one) for one in made]
        worker = deployment.start("index")
        worker.wait_ready()
        meter = Meter({"dejaview": deployment.pids})
        publish(deployment, deployment.settings.topics.ledger, entries, [one.tenant for one in made])
        until(lambda: worker.metric("dejaview_indexed_rows_total") >= count, lambda: "INDEX did not come to the end")
        wall_s, cpu = meter.read()
        resident_mb = resident_bytes(worker.process.pid) / 1e6
    return [
        Figure("INDEX: rows", count / wall_s, "/s", "bare insert loop", bare),
        Figure("INDEX: CPU a row", 1000 * cpu["dejaview"] / count, "ms"),
        Figure("INDEX: resident memory", resident_mb, "MB"),
    ]

"""INDEX alone beside the bare insert loop, and how searches and memory grow with the rows."""

from __future__ import annotations

from collections.abc import Sequence

from models.model import load_model
from ops.bench.cost import Meter, resident_bytes
from ops.bench.records import fingerprint, ledger_entry, publish, tenant_of
from ops.bench.result import Figure, Line, Part, Plot
from ops.bench.rig import Deployment, Rig, pid_of, until
from ops.bench.search import Filled
from ops.bench.vectors import ground_of, like

COPIES_MAX = 500
BARE_S = 5.0
SEARCHES = 300
NOTE = (
    "Rows of photos, the rest drawn from the same distribution; HNSW, sealed and indexed before it is searched. A "
    "search asks for one tenant's nearest rows with a guarantee that costs no wait. Memory: of the whole server, in "
    "which earlier sizes are still loaded."
)


def measure(rig: Rig, photos: Sequence[bytes], count: int, sizes: Sequence[int]) -> Part:
    """The stage once, then one collection a size."""
    figures, inserted = [], 0.0
    p50s, p99s, memory = [], [], []
    for size in sizes:
        ground = ground_of(photos, COPIES_MAX, size)
        with Deployment(rig) as deployment:
            filled = Filled(deployment, ground, load_model())
            inserted = filled.inserted_per_s
            p50, p99 = filled.search_ms(SEARCHES)
            rate, recall = filled.search_rate(64, BARE_S), filled.recall()
            filled.close()
        memory.append(sum(resident_bytes(pid) for pid in pid_of(rig.milvus)) / 1e6)
        p50s.append(p50)
        p99s.append(p99)
        at = f"{size:,} rows"
        figures += [
            Figure(f"{at}: search of one, p50", p50, "ms"),
            Figure(f"{at}: search of one, p99", p99, "ms"),
            Figure(f"{at}: searches in batches of 64", rate, "/s"),
            Figure(f"{at}: recall@1 of edited copies", recall, "", "exact search", 1.0),
            Figure(f"{at}: resident memory of Milvus", memory[-1], "MB"),
        ]
    figures = [*_stage(rig, photos, count, inserted), *figures]
    x = [float(size) for size in sizes]
    plots = [
        Plot("Search of one picture", "rows", "ms", [Line("p50", x, p50s), Line("p99", x, p99s)], logarithmic=True),
        Plot("Memory of Milvus", "rows", "MB", [Line("resident", x, memory)], logarithmic=True),
    ]
    return Part("index", "INDEX alone, and the index by size", NOTE, figures, plots)


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

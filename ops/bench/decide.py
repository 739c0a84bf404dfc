"""DECIDE alone: fingerprints are on the topic, rows in the index; beside the bare search loop. And how both grow."""

from __future__ import annotations

from collections.abc import Sequence

from models.model import Model, load_model
from ops.bench.cost import Meter, resident_bytes
from ops.bench.records import TENANTS, fingerprint, publish, tenant_of
from ops.bench.result import Figure, Line, Part, Plot
from ops.bench.rig import Arrivals, Deployment, Rig, pid_of
from ops.bench.search import Filled
from ops.bench.vectors import Ground, ground_of, like
from schemas.events import Fingerprint
from stream.config import DecideSettings

COPIES_MAX = 1_000
BARE_S = 5.0
SEARCHES = 300
# The first batches meet cold caches.
SKIPPED_SHARE = 0.1
# What new pictures are drawn like.
LIKE_ROWS = 2_000
NOTE = (
    f"Half of the fingerprints are edited copies of rows, half resemble nothing; {TENANTS} tenants; INDEX has run and "
    "stands still. Beside it: `Index.search` with the same client, batches and threads, and nothing else. Rows of "
    "photos, the rest drawn from the same distribution; HNSW, sealed and indexed before it is searched. Milvus's "
    "memory is the whole server's, in which earlier sizes are still loaded."
)


def measure(rig: Rig, photos: Sequence[bytes], count: int, sizes: Sequence[int]) -> Part:
    """Verdicts/s for indexes of these sizes."""
    figures: list[Figure] = []
    grown: list[tuple[float, float, float]] = []
    for size in sizes:
        some, growth = _at(rig, photos, count, size)
        figures += some
        grown.append(growth)
    x = [float(size) for size in sizes]
    p50s, p99s, memory = (list(values) for values in zip(*grown, strict=True))
    plots = [
        Plot("Search of one picture", "rows", "ms", [Line("p50", x, p50s), Line("p99", x, p99s)], logarithmic=True),
        Plot("Memory of Milvus", "rows", "MB", [Line("resident", x, memory)], logarithmic=True),
    ]
    return Part("decide", "DECIDE alone, and the index by size", NOTE, figures, plots)


def _at(rig: Rig, photos: Sequence[bytes], count: int, size: int) -> tuple[list[Figure], tuple[float, float, float]]:
    """The figures of one size; and a search's p50 and p99 in ms and Milvus's memory in MB."""
    model = load_model()
    ground = ground_of(photos, min(COPIES_MAX, count), size)
    with Deployment(rig) as deployment:
        filled = Filled(deployment, ground, model)
        batch = DecideSettings().batch_items_max // TENANTS
        bare = filled.search_rate(batch, BARE_S)
        p50, p99 = filled.search_ms(SEARCHES)
        recall = filled.recall()
        filled.close()
        milvus_mb = sum(resident_bytes(pid) for pid in pid_of(rig.milvus)) / 1e6
        # Its link is what searches are pinned to; without one they are `Strong`.
        index = deployment.start("index")
        index.wait_ready()
        deployment.end(index)
        made = _fingerprints(deployment, model, count, ground)
        with Arrivals(deployment.settings) as arrivals:
            worker = deployment.start("decide")
            worker.wait_ready()
            meter = Meter({"dejaview": deployment.pids})
            publish(deployment, deployment.settings.topics.fingerprints, made, [one.tenant for one in made])
            arrived = sorted(arrivals.wait([one.upload_id for one in made]))
            _, cpu = meter.read()
            resident_mb = resident_bytes(worker.process.pid) / 1e6
    first = int(SKIPPED_SHARE * count)
    rate = (count - first) / (arrived[-1] - arrived[first])
    at = f"{size:,} rows"
    figures = [
        Figure(f"{at}: verdicts", rate, "/s", "bare search loop", bare),
        Figure(f"{at}: CPU a verdict", 1000 * cpu["dejaview"] / count, "ms"),
        Figure(f"{at}: resident memory", resident_mb, "MB"),
        Figure(f"{at}: search of one, p50", p50, "ms"),
        Figure(f"{at}: search of one, p99", p99, "ms"),
        Figure(f"{at}: recall@1 of edited copies", recall, "", "exact search", 1.0),
        Figure(f"{at}: resident memory of Milvus", milvus_mb, "MB"),
    ]
    return figures, (p50, p99, milvus_mb)


def _fingerprints(deployment: Deployment, model: Model, count: int, ground: Ground) -> list[Fingerprint]:
    """Copies and new pictures in turn; a copy is its original's tenant's."""
    new = like(ground.rows[:LIKE_ROWS], count, seed=1)
    made = []
    new_bias, copy_bias = model.background.bias(new), model.background.bias(ground.copies)
    for number in range(count):
        place = number // 2 % len(ground.copies)
        copy = ground.copies[place], copy_bias[place], int(ground.own[place])
        vector, bias, tenant = copy if number % 2 else (new[number], new_bias[number], number // 2)
        made.append(fingerprint(number, f"upload-{number}", tenant_of(tenant), vector, bias, deployment, model))
    return made

"""DECIDE alone: fingerprints are on the topic, rows in the index; beside the bare search loop of the same index."""

from __future__ import annotations

from collections.abc import Sequence

from models.model import Model, load_model
from ops.bench.cost import Meter, resident_bytes
from ops.bench.records import TENANTS, fingerprint, publish, tenant_of
from ops.bench.result import Figure, Part
from ops.bench.rig import Arrivals, Deployment, Rig
from ops.bench.search import Filled
from ops.bench.vectors import Ground, ground_of, like
from schemas.events import Fingerprint
from stream.config import DecideSettings

COPIES_MAX = 1_000
BARE_S = 5.0
# The first batches meet cold caches.
SKIPPED_SHARE = 0.1
# What new pictures are drawn like.
LIKE_ROWS = 2_000
NOTE = (
    f"Half of the fingerprints are edited copies of rows, half resemble nothing; {TENANTS} tenants; INDEX has run and "
    "stands still. Beside it: `Index.search` with the same client, batches and threads, and nothing else."
)


def measure(rig: Rig, photos: Sequence[bytes], count: int, sizes: Sequence[int]) -> Part:
    """Verdicts/s for indexes of these sizes."""
    figures: list[Figure] = []
    for size in sizes:
        figures += _at(rig, photos, count, size)
    return Part("decide", "DECIDE alone", NOTE, figures)


def _at(rig: Rig, photos: Sequence[bytes], count: int, size: int) -> list[Figure]:
    model = load_model()
    ground = ground_of(photos, min(COPIES_MAX, count), size)
    with Deployment(rig) as deployment:
        filled = Filled(deployment, ground, model)
        batch = DecideSettings().batch_items_max // TENANTS
        bare = filled.search_rate(batch, BARE_S)
        recall = filled.recall()
        filled.close()
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
    return [
        Figure(f"{at}: verdicts", rate, "/s", "bare search loop", bare),
        Figure(f"{at}: CPU a verdict", 1000 * cpu["dejaview"] / count, "ms"),
        Figure(f"{at}: recall@1 of edited copies", recall, "", "exact search", 1.0),
        Figure(f"{at}: resident memory", resident_mb, "MB"),
    ]


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

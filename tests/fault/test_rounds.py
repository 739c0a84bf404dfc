"""R1 and R2 under every fault of the table: nothing lost, nothing said twice, nothing said differently."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fault.cluster import Cluster
from tests.fault.faults import FAULTS
from tests.fault.load import Shape
from tests.fault.round import Round, seed_of_this_run

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

# Long enough for a worker's session to end (6 s here) and for its partitions to be judged by another.
HOLD_S = 9.0
HEALED_WITHIN_S = 180.0
SHORT_ROUNDS = 2
BAD = 0.03
# Faults that are held, and a load that lasts longer: a zombie wakes up to something.
HELD = ("zombie-", "stop-milvus", "kafka-", "milvus-")
HELD_RATE = 15.0
# Drawn for the short rounds from different families, so that two rounds try six kinds of damage.
FAMILIES = (
    ("kill-encode", "sigterm-encode", "zombie-encode", "add-encode"),
    ("kill-decide", "zombie-decide", "sigterm-decide", "remove-decide"),
    ("kill-index", "zombie-index", "stop-milvus", "milvus-drop", "milvus-half-close"),
    ("restart-kafka", "kill-kafka", "kafka-reset", "kafka-drop"),
)


def prove(
    cluster: Cluster,
    folder: Path,
    name: str,
    seed: int,
    shape: Shape,
    faults: list[str],
    hold_s: float,
    rate: float = 0.0,
) -> None:
    """Load, fault after fault, healing, proof."""
    # Small batches: the deciders always have something in their hands.
    with Round(cluster, folder, name, seed, shape, decide={"batch_items_max": 8}) as this:
        this.start("encode", "index")
        this.load.flow(rate=rate)
        this.start("decide")
        for n, fault in enumerate(faults):
            this.wait_answered(min(0.85, 0.05 + 0.6 * n / len(faults)))
            this.note("fault", fault=fault)
            FAULTS[fault](this, hold_s)
        this.cluster.heal()
        this.load.hurry()
        report = this.finish(HEALED_WITHIN_S, late_s=hold_s + HEALED_WITHIN_S)
        assert report["uploads"] >= shape.uploads
        assert report["kinds"]["unique"] > 0
        assert report["kinds"]["duplicate"] > 0
        assert set(report["reasons"]) == {"unsupported_format", "id_conflict"}


@pytest.mark.parametrize("number", range(SHORT_ROUNDS))
def test_short_round(cluster: Cluster, tmp_path: Path, number: int) -> None:
    """R1, R2: 3 encoders, 2 deciders, faults of four families drawn by the seed.

    Break: `encode-commits-what-it-took`; `forgetful-restore`.
    """
    seed = seed_of_this_run() + number
    rng = random.Random(seed)
    faults = [rng.choice(family) for family in FAMILIES]
    rng.shuffle(faults)
    shape = Shape(uploads=1_200, encoders=3, deciders=2, bad=BAD)
    prove(cluster, tmp_path, f"short-{number}", seed, shape, faults, HOLD_S)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault(cluster: Cluster, tmp_path: Path, fault: str) -> None:
    """R1, R2: one fault of the table at a time, held for 45 s (Milvus 60 s)."""
    hold_s = 60.0 if "milvus" in fault else 45.0
    shape = Shape(uploads=1_200, bad=BAD)
    rate = HELD_RATE if fault.startswith(HELD) else 0.0
    prove(cluster, tmp_path, f"fault-{fault}", seed_of_this_run(), shape, [fault], hold_s, rate)


@pytest.mark.long
@pytest.mark.parametrize("number", range(10))
def test_long_round(cluster: Cluster, tmp_path: Path, number: int) -> None:
    """R1, R2: 20,000 uploads, a third of them copies, 3 encoders, 2 deciders, six faults drawn by the seed."""
    seed = seed_of_this_run() + 1_000 + number
    faults = random.Random(seed).sample(list(FAULTS), 6)
    shape = Shape(uploads=20_000, tenants=48, partitions=12, encoders=3, deciders=2, bad=BAD)
    prove(cluster, tmp_path, f"long-{number}", seed, shape, faults, HOLD_S)

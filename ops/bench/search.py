"""An index filled to a size, and the bare loops against it: insert, search, recall."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import numpy as np

from models.model import Model
from ops.bench.records import TENANTS, in_pieces, row_of, tenant_of
from ops.bench.rig import Deployment
from ops.bench.vectors import Ground
from schemas.events import Vector
from stream.lookup import SEARCH_THREADS
from stream.neighbours.milvus import MilvusIndex
from stream.neighbours.protocol import STRONG

SETTLE_S = 3_600.0
ROWS_AT_ONCE = 20_000
QUERIES = 256


class Filled:
    """A deployment's collection with the rows of a ground, sealed and indexed."""

    def __init__(self, deployment: Deployment, ground: Ground, model: Model) -> None:
        """Fill it. `inserted_per_s` is the bare insert loop: rows are made before the clock runs."""
        self.ground = ground
        self.index = MilvusIndex(deployment.settings.index, model.model_id)
        self.index.prepare()
        spent_s, self.guarantee = 0.0, 0
        for start in range(0, len(ground.rows), ROWS_AT_ONCE):
            some = ground.rows[start : start + ROWS_AT_ONCE]
            vectors = zip(some, model.background.bias(some), strict=True)
            rows = [row_of(start + n, vector, bias, deployment, model) for n, (vector, bias) in enumerate(vectors)]
            begun = time.perf_counter()
            for piece in in_pieces(rows):
                self.guarantee = self.index.insert(piece)
            spent_s += time.perf_counter() - begun
        self.inserted_per_s = len(ground.rows) / spent_s
        self.index.settle(SETTLE_S)
        # Waits for the rows once, so that no search does.
        self.index.search(tenant_of(0), ground.copies[:1], STRONG)

    def search_rate(self, batch: int, seconds: float) -> float:
        """Queries/s of the bare search loop: batches of one tenant after another, as many at once as DECIDE asks."""
        batches = [(tenant_of(n), self._copies_of(n, batch)) for n in range(TENANTS)]
        with ThreadPoolExecutor(SEARCH_THREADS) as threads:
            begun, asked = time.perf_counter(), 0
            while time.perf_counter() - begun < seconds or not asked:
                list(threads.map(lambda one: self.index.search(one[0], one[1], self.guarantee), batches))
                asked += batch * len(batches)
            return asked / (time.perf_counter() - begun)

    def search_ms(self, count: int) -> tuple[float, float]:
        """p50 and p99 of a search for one picture, one at a time."""
        spent = []
        for n, vector in enumerate(islice(cycle(self.ground.copies), count)):
            begun = time.perf_counter()
            self.index.search(tenant_of(int(self.ground.own[n % len(self.ground.own)])), vector[None], self.guarantee)
            spent.append(1000 * (time.perf_counter() - begun))
        p50, p99 = np.percentile(spent, [50, 99])
        return float(p50), float(p99)

    def recall(self) -> float:
        """Share of the copies whose first hit is the nearest row by brute force."""
        exact = self.ground.exact(TENANTS)
        right = 0
        for tenant in range(TENANTS):
            mine = np.flatnonzero(self.ground.own % TENANTS == tenant)
            hits = self.index.search(tenant_of(tenant), self.ground.copies[mine], self.guarantee) if len(mine) else []
            right += sum(
                bool(found) and found[0].upload_id == f"row-{exact[place]}"
                for place, found in zip(mine, hits, strict=True)
            )
        return right / len(exact)

    def close(self) -> None:
        self.index.close()

    def _copies_of(self, tenant: int, count: int) -> Vector:
        mine: Sequence[int] = np.flatnonzero(self.ground.own % TENANTS == tenant).tolist()
        return self.ground.copies[list(islice(cycle(mine), count))]

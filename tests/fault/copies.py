"""First pictures that only the index knows, and then their copies: what a wrongly believed index makes unique."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.edits import EDITS
from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.round import Round, seed_of_this_run
from tests.support.deployment import SentUpload, until
from tests.support.photos import jpeg
from tests.support.pictures import drawn

FIRST, COPIES, NEW = 240, 480, 120
SHAPE = Shape(uploads=FIRST + COPIES + NEW)
FELT_WITHIN_S = 30.0
HEALED_WITHIN_S = 120.0
COPY_EDITS = ("jpeg_50", "brightness", "contrast", "grey")


def pictures(seed: int) -> list[tuple[int, SentUpload]]:
    """What is sent first: every picture new to its tenant."""
    rng = random.Random(seed)
    made = []
    for n in range(FIRST):
        number = seed * 1_000_003 + n
        value = jpeg(drawn(number), 85)
        made.append((number, SentUpload(f"first-{n}", value, f"tenant-{n % 6}", rng.randrange(6))))
    return made


def copies(seed: int, first: list[tuple[int, SentUpload]]) -> Iterator[SentUpload]:
    """Edited and identical copies of what was sent first, and a few new pictures."""
    rng = random.Random(seed + 1)
    for n in range(COPIES + NEW):
        number, upload = rng.choice(first)
        if n % 5 == 4:
            image, tenant = drawn(seed * 1_000_003 + FIRST + n), f"tenant-{rng.randrange(6)}"
            yield SentUpload(f"new-{n}", jpeg(image, 85), tenant, rng.randrange(6))
        elif n % 5 == 3:
            yield SentUpload(f"copy-{n}", upload.value, upload.tenant, rng.randrange(6))
        else:
            image = EDITS[rng.choice(COPY_EDITS)](drawn(number), random.Random(n))
            yield SentUpload(f"copy-{n}", jpeg(image), upload.tenant, rng.randrange(6))


def metric(this: Round, stage: str, name: str) -> float:
    """The sum over the running workers of a stage."""
    return sum(v for w in this.of(stage) for k, v in this.workers[w].metrics().items() if k.startswith(name))


@contextmanager
def loaded(cluster: Cluster, folder: Path, name: str, *, load: bool = True) -> Iterator[Round]:
    """A round whose first pictures only the index knows, and whose copies are being judged (unless `load` is False)."""
    seed = seed_of_this_run()
    with Round(cluster, folder, name, seed, SHAPE) as this:
        this.start()
        first = pictures(seed)
        this.sent += this.deployment.send(upload for _, upload in first)
        this.wait_answered(FIRST / SHAPE.uploads)
        until(
            lambda: not metric(this, "decide", "dejaview_window_rows"), 30, lambda: f"windows hold rows {this.tails()}"
        )
        this.note("only the index knows", answered=this.answers.count)
        if load:
            this.load.send(spread_s=40.0, made=copies(seed, first))
            this.wait_answered((FIRST + 20) / SHAPE.uploads)
        yield this

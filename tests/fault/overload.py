"""The load of the overload test: small pictures, photographs of 12 megapixels and 4 MB, references to such files."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from schemas.cloudevents import upload_headers
from stream.kafka import LogProducer, Outgoing
from tests.support.deployment import SentUpload
from tests.support.pictures import uploads

PHOTOGRAPH_SIZE = (4000, 3000)
PHOTOGRAPHS = 8
# Of a hundred uploads so many are photographs inside the record, and so many references to one in a file.
PHOTOGRAPHS_PERCENT = 2
REFERENCES_PERCENT = 2
# Besides, references come in bursts, at these shares of a load: as many uploads in a row as would take
# BURST_REFERENCES x 4 MB if nothing held them back.
BURSTS_AT = (0.2, 0.6)
BURST_REFERENCES = 150
STEP_S = 0.05


def photograph(seed: int) -> bytes:
    """A JPEG of 12 megapixels and about 4 MB: soft light and grain."""
    rng = np.random.default_rng(seed)
    width, height = PHOTOGRAPH_SIZE
    light = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(light).resize(PHOTOGRAPH_SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.integers(-28, 29, (height // 2, width // 2, 1), dtype=np.int16).repeat(2, 0).repeat(2, 1)
    out = io.BytesIO()
    Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=88)
    return out.getvalue()


class Load:
    """Uploads without end; the photographs are drawn once, each upload of one has bytes of its own."""

    def __init__(self, folder: Path, seed: int, tenants: int, partitions: int) -> None:
        self._rng = random.Random(seed)
        self._tenants, self._partitions, self._seed = tenants, partitions, seed
        self._photographs = [photograph(seed + n) for n in range(PHOTOGRAPHS)]
        self._files = [folder / f"{n}.jpg" for n in range(PHOTOGRAPHS)]
        for file, data in zip(self._files, self._photographs, strict=True):
            file.write_bytes(data)
        self.kinds = {"small": 0, "photograph": 0, "reference": 0}

    def uploads(self, count: int, *, bursts: bool, bad: float = 0.0) -> Iterator[SentUpload]:
        """So many more, in random order; with bursts of references in between, and this share of bad ones."""
        self._seed += 1
        begins = [int(share * count) for share in BURSTS_AT] if bursts else []
        for n, small in enumerate(uploads(count, self._seed, self._tenants, self._partitions, bad=bad)):
            draw = self._rng.randrange(100)
            if any(begin <= n < begin + BURST_REFERENCES for begin in begins):
                draw = PHOTOGRAPHS_PERCENT
            chosen = self._rng.randrange(PHOTOGRAPHS)
            upload_id = f"{small.upload_id}-large"
            if draw < PHOTOGRAPHS_PERCENT:
                self.kinds["photograph"] += 1
                # What follows a JPEG's end is not decoded: other bytes, the same picture.
                value = self._photographs[chosen] + f"{self._seed}-{n}".encode()
                yield SentUpload(upload_id, value, small.tenant, small.partition)
            elif draw < PHOTOGRAPHS_PERCENT + REFERENCES_PERCENT:
                self.kinds["reference"] += 1
                value = json.dumps({"uri": self._files[chosen].as_uri()}).encode()
                yield SentUpload(upload_id, value, small.tenant, small.partition, "application/json")
            else:
                self.kinds["small"] += 1
                yield small


def records(topic: str, made: Iterator[SentUpload]) -> list[Outgoing]:
    """The uploads as records, ready to be produced."""
    return [
        Outgoing(topic, u.value, upload_headers(u.upload_id, u.tenant, u.content_type, "/tests"), u.partition)
        for u in made
    ]


def offer(producer: LogProducer, prepared: Sequence[Outgoing], rate: float, each_step: Callable[[int], None]) -> float:
    """Produce at this rate, whatever becomes of it; the rate that was reached.

    Args:
        each_step: called with the number of records that are on the broker or on their way.
    """
    begun = time.monotonic()
    done = 0
    while done < len(prepared):
        due = min(len(prepared), int((time.monotonic() - begun) * rate) + 1)
        producer.produce(prepared[done:due])
        done = due
        producer.serve()
        each_step(done)
        time.sleep(STEP_S)
    producer.flush()
    return len(prepared) / (time.monotonic() - begun)

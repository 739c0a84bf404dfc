"""End to end through real Kafka and Milvus on this machine, beside the bare decode+encode loop.

`python -m ops.bench.end_to_end PHOTOS [--uploads N] [--json FILE]`

Throughput: all uploads are sent at once. Latency: uploads are sent at half of that rate (open loop),
from the upload record's Kafka timestamp to the moment a read-committed consumer has the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from models.background import Background
from models.encoder import load_encoder
from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from ops.local.ports import free_port
from schemas.cloudevents import upload_headers
from stream.config import IntakeSettings, Settings
from stream.errors import SettingError
from stream.intake.sandbox import DecoderPool
from stream.kafka import Admin, Follower, LogProducer, Outgoing

PARTITIONS = 4
BATCH = 32
TENANTS = 4
TIMEOUT_S = 600.0
READY_S = 60.0


@dataclass(frozen=True)
class Figures:
    """One way of delivery: images/s flat out, and milliseconds at half of that rate."""

    delivery: str
    images_per_s: float
    share_of_bare: float
    rate_per_s: float
    p50_ms: float
    p99_ms: float


def photos_of(path: Path) -> list[bytes]:
    """The images of a tar file or a folder.

    Raises:
        SettingError: there are none.
    """
    if path.is_dir():
        found = [
            p.read_bytes() for p in sorted(path.rglob("*")) if p.suffix.lower() in {".jpg", ".jpeg", ".webp", ".png"}
        ]
    elif path.exists():
        with tarfile.open(path) as archive:
            files = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
            found = [file.read() for file in files if file is not None]
    else:
        found = []
    if not found:
        raise SettingError(f"{path} holds no photos; name a folder or a tar file of JPEG, PNG or WebP files")
    return found


def bare_loop(photos: Sequence[bytes], count: int) -> float:
    """Images/s of decoding, PDQ, encoding and bias with the product's own pool and runtime, and nothing else."""
    encoder, background = load_encoder(), Background.load()
    pool = DecoderPool(IntakeSettings())
    with ThreadPoolExecutor(IntakeSettings().decoders) as threads:
        list(threads.map(pool.decode, photos[:BATCH]))
        begun = time.perf_counter()
        decoded = threads.map(pool.decode, (photos[n % len(photos)] for n in range(count)))
        batch = []
        for one in decoded:
            batch.append(one.pixels)
            if len(batch) == BATCH:
                background.bias(encoder.encode(np.stack(batch)))
                batch = []
        if batch:
            background.bias(encoder.encode(np.stack(batch)))
        taken_s = time.perf_counter() - begun
    pool.close()
    return count / taken_s


class Arrivals:
    """When each verdict became visible to a read-committed consumer, by source position."""

    def __init__(self, settings: Settings) -> None:
        self.at_s: dict[tuple[int, int], tuple[float, int]] = {}
        self._stop = threading.Event()
        topics = dict.fromkeys(settings.topics.verdicts, PARTITIONS)
        self._follower = Follower(settings, topics, from_start=True)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while len(self.at_s) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.at_s)} of {count} verdicts after {TIMEOUT_S:g} s")
            time.sleep(0.05)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._follower.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            # One at a time: a larger read waits for company, and that is no latency of the verdict.
            for record in self._follower.read(1, 0.1):
                trace = json.loads(record.value or b"{}")["trace"]
                place = (trace["source"]["partition"], trace["source"]["offset"])
                self.at_s.setdefault(place, (time.time(), trace["upload_timestamp_ms"]))


@contextmanager
def deployed(folder: Path, kafka: str, milvus: str, delivery: str) -> Iterator[Settings]:
    """Topics, a collection and one `dejaview run` of their own."""
    tag = f"bench{uuid.uuid4().hex[:8]}"
    names = ("uploads", "fingerprints", "ledger", "unique", "duplicate", "review", "deadletters")
    port = free_port()
    values: dict[str, Any] = {
        "kafka": {"bootstrap_servers": kafka, "group_prefix": tag},
        "topics": {name: f"{tag}.{name}" for name in names},
        "index": {"uri": milvus, "collection": tag},
        "health": {"port": port},
        "delivery": delivery,
        "instance_id": tag,
    }
    settings = Settings(**values)
    admin = Admin(settings)
    for name in values["topics"].values():
        admin.create(name, PARTITIONS, 1, {"max.message.bytes": str(settings.topics.message_bytes_max)})
    config = folder / f"{tag}.yaml"
    config.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "ops.cli.main", "run", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (folder / f"{tag}.log").open("wb") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
    try:
        _wait_ready(port, worker, folder / f"{tag}.log")
        yield settings
    finally:
        worker.terminate()
        worker.wait(60)


def _wait_ready(port: int, worker: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and worker.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"the worker was not ready: {log.read_text()[-2000:]}")


def send(settings: Settings, photos: Sequence[bytes], first: int, count: int, rate_per_s: float | None) -> None:
    """Uploads with distinct ids, spread over partitions and tenants; at a fixed rate, or all at once."""
    producer = LogProducer(settings)
    begun = time.monotonic()
    for n in range(first, first + count):
        if rate_per_s is not None:
            time.sleep(max(0.0, begun + (n - first) / rate_per_s - time.monotonic()))
        headers = upload_headers(f"photo-{n}", f"tenant-{n % TENANTS}", "image/jpeg", "/bench")
        topic = settings.topics.uploads
        producer.produce([Outgoing(topic, photos[n % len(photos)], headers, partition=n % PARTITIONS)])
        producer.serve()
    producer.flush()


def measure(
    folder: Path, kafka: str, milvus: str, delivery: str, photos: Sequence[bytes], count: int, bare: float
) -> Figures:
    """Throughput and latency of one way of delivery."""
    with deployed(folder, kafka, milvus, delivery) as settings:
        arrivals = Arrivals(settings)
        send(settings, photos, 0, 2 * BATCH, None)
        arrivals.wait(2 * BATCH)
        begun = time.time()
        send(settings, photos, 2 * BATCH, count, None)
        arrivals.wait(2 * BATCH + count)
        images_per_s = count / (max(at for at, _ in arrivals.at_s.values()) - begun)
        rate = images_per_s / 2
        before = set(arrivals.at_s)
        slow = max(100, min(count, int(rate * 30)))
        send(settings, photos, 2 * BATCH + count, slow, rate)
        arrivals.wait(2 * BATCH + count + slow)
        arrivals.close()
    late_ms = [1000 * at - sent for place, (at, sent) in arrivals.at_s.items() if place not in before]
    p50, p99 = np.percentile(late_ms, [50, 99])
    return Figures(delivery, images_per_s, images_per_s / bare, rate, float(p50), float(p99))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.end_to_end", description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder or a tar file of photos")
    parser.add_argument("--uploads", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    photos = photos_of(options.photos)
    with tempfile.TemporaryDirectory(prefix="dejaview-bench-") as name:
        folder = Path(name)
        kafka, milvus = KafkaServer(folder / "kafka"), MilvusServer(folder / "milvus")
        try:
            kafka.start()
            milvus.start()
            bare = bare_loop(photos, options.uploads)
            ways = ("exactly_once", "at_least_once")
            figures = [measure(folder, kafka.bootstrap, milvus.uri, way, photos, options.uploads, bare) for way in ways]
        finally:
            kafka.kill()
            milvus.kill()
    _print(bare, figures)
    if options.json is not None:
        options.json.write_text(
            json.dumps({"bare_images_per_s": bare, "figures": [asdict(f) for f in figures]}, indent=1)
        )
    return 0


def _print(bare: float, figures: Sequence[Figures]) -> None:
    out = sys.stdout
    out.write(f"bare decode+PDQ+encode loop: {bare:.0f} images/s\n\n")
    out.write("| delivery | images/s | of the bare loop | at images/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|\n")
    for f in figures:
        row = (
            f"{f.images_per_s:.0f}",
            f"{f.share_of_bare:.0%}",
            f"{f.rate_per_s:.0f}",
            f"{f.p50_ms:.0f}",
            f"{f.p99_ms:.0f}",
        )
        out.write(f"| {f.delivery} | {' | '.join(row)} |\n")


if __name__ == "__main__":
    sys.exit(main())

"""How much memory a worker can come to: the formula of ARCHITECTURE.md, "Memory".

It adds up limits, so it is what a container's limit must allow and not what a worker mostly takes. The figures that no
setting states were measured (`tests/fault/test_overload.py` holds the sum against real processes, `tests/unit/
test_capacity.py` the rows).
"""

from __future__ import annotations

from collections.abc import Collection

from models.panels import PANELS_MAX
from stream.config import Settings
from stream.kafka.consumer import FETCH_BYTES_MAX, QUEUED_BYTES_MAX
from stream.ledger import READ_RECORDS
from stream.service import Stage
from stream.window import VECTORS_AT_ONCE

# A process without work: the interpreter, its libraries, librdkafka's threads; what each stage adds to it. Measured at
# rest on two cores: ENCODE 198 MB, DECIDE 150, INDEX 140; OpenVINO takes more where it finds more cores.
BASE_BYTES = 100_000_000
STAGE_BYTES = {Stage.ENCODE: 200_000_000, Stage.DECIDE: 70_000_000, Stage.INDEX: 60_000_000}
# The group's consumer, and for DECIDE the two readers of the ledger. A fetch may be under way when a buffer fills.
CONSUMERS = {Stage.ENCODE: 1, Stage.DECIDE: 3, Stage.INDEX: 1}
CONSUMER_BYTES = QUEUED_BYTES_MAX + FETCH_BYTES_MAX
# A window row: 1 kB of vector and 1 kB of row data, twice for room to grow and rows dropped but not yet let go, and an
# upload id of 256 characters outside of Latin-1.
WINDOW_ROW_BYTES = 5_000
MEMORY_ENTRY_BYTES = 700
# uint8 [224, 224, 3] of a decoded picture.
PIXELS_BYTES = 224 * 224 * 3
# One record of a batch, parsed, with its candidates, its outcome and its serialised form.
WORK_BYTES = 40_000
# What a panel adds to it, estimated: its vector and candidates, no outcome.
PANEL_WORK_BYTES = 20_000
# One record of the ledger as it is read when a partition is opened.
LEDGER_RECORD_BYTES = 10_000
# What the allocator holds beyond what is in use, as a share of everything that comes and goes.
ALLOCATOR_SHARE = 0.25
_LASTING = ("base", "windows", "memories")


def worker_parts(settings: Settings, stages: Collection[Stage], partitions: int | None = None) -> dict[str, int]:
    """The parts of a worker's memory in bytes, without its decoder processes.

    Args:
        settings: the deployment's.
        stages: those that run in this process.
        partitions: fingerprints partitions that it may own; all of them, when it may be the last one left.
    """
    parts = {
        "base": BASE_BYTES + sum(STAGE_BYTES[stage] for stage in stages),
        "consumers": CONSUMER_BYTES * sum(CONSUMERS[stage] for stage in stages),
    }
    if Stage.ENCODE in stages:
        parts |= _encode_parts(settings)
    if Stage.DECIDE in stages:
        decide = settings.decide
        owned = settings.topics.partitions if partitions is None else partitions
        parts["windows"] = owned * decide.window_rows_max * WINDOW_ROW_BYTES
        parts["memories"] = owned * decide.memory_entries_max * MEMORY_ENTRY_BYTES
        parts["restore"] = READ_RECORDS * LEDGER_RECORD_BYTES
        # Similarities, negated ones and the places that order them: 4, 4 and 8 bytes.
        parts["window search"] = VECTORS_AT_ONCE * decide.window_rows_max * 16
        parts["decide batch"] = decide.batch_items_max * (WORK_BYTES + PANELS_MAX * PANEL_WORK_BYTES)
    if Stage.INDEX in stages:
        parts["index batch"] = settings.ledger_index.batch_items_max * WORK_BYTES
    parts["allocator"] = int(ALLOCATOR_SHARE * sum(count for name, count in parts.items() if name not in _LASTING))
    return parts


def worker_bound_bytes(settings: Settings, stages: Collection[Stage], partitions: int | None = None) -> int:
    """What a worker's own process can come to. See `worker_parts`."""
    return sum(worker_parts(settings, stages, partitions).values())


def decoders_bound_bytes(settings: Settings, stages: Collection[Stage]) -> int:
    """What the decoder processes can come to: the system allows none more than its address space."""
    if Stage.ENCODE not in stages:
        return 0
    return settings.intake.decoders * settings.intake.decode_memory_bytes


def memory_parts(settings: Settings, stages: Collection[Stage], partitions: int | None = None) -> dict[str, int]:
    """The parts of a worker and of its decoder processes, in bytes."""
    parts = worker_parts(settings, stages, partitions)
    decoders = decoders_bound_bytes(settings, stages)
    return {**parts, "decoders": decoders} if decoders else parts


def memory_bound_bytes(settings: Settings, stages: Collection[Stage], partitions: int | None = None) -> int:
    """What a worker can come to with its decoder processes: the limit of its container."""
    return sum(memory_parts(settings, stages, partitions).values())


def _encode_parts(settings: Settings) -> dict[str, int]:
    encode, intake = settings.encode, settings.intake
    return {
        # A file is read into a buffer and then copied once: the copy alone is charged.
        "fetches": intake.fetchers * intake.bytes_max,
        "in flight": encode.in_flight_bytes_max,
        # A structured event is JSON: its text, the picture's base64 in it and the picture, while one is parsed.
        "parsing": 3 * settings.topics.message_bytes_max,
        # Every upload may be a collage.
        "pixels": encode.in_flight_items_max * (1 + PANELS_MAX) * PIXELS_BYTES,
        # The batch as one array and as the runtime's input (float32), and its vectors.
        "encode batch": encode.batch_items_max * PIXELS_BYTES * 10,
    }

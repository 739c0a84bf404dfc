"""R1 when `uploads` gets partitions under running workers: what lies there before anyone knows of them is read, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from ops.local.kafka import KafkaServer
from tests.support.deployment import Deployment, SentUpload, until
from tests.support.photos import jpeg, photo

pytestmark = pytest.mark.timeout(240)

PARTITIONS, MORE_PARTITIONS = 3, 6


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest, kafka: KafkaServer, milvus_uri: str, tmp_path: Path
) -> Iterator[Deployment]:
    """Begins at the parameter's `first_start`; consumers ask for the partitions every second."""
    options = {"consumer_options": {"topic.metadata.refresh.interval.ms": "1000"}}
    made = Deployment.create(
        tmp_path, kafka.bootstrap, milvus_uri, PARTITIONS, first_start=request.param, kafka=options
    )
    yield made
    made.close()


@pytest.mark.parametrize("deployment", ["earliest", "latest"], indirect=True)
def test_a_partition_that_is_added_is_read_from_its_beginning(deployment: Deployment) -> None:
    """R1: `latest` leaves out what every partition held before the group's first start, and nothing else: two encoders
    answer all that comes later, in the new partitions also what came before they were known.

    Breaks, each tried: commit the end of the opened partition alone in `_begin_at_the_ends` ("before" is answered in
    all partitions but one); commit it whatever the other partitions have ("unknown" is skipped).
    """
    answered = ["before", "running"] if deployment.settings.first_start == "earliest" else ["running"]
    send(deployment, "before", range(PARTITIONS))
    workers = [deployment.start("a"), deployment.start("b", "encode")]
    for worker in workers:
        worker.wait_ready()
    send(deployment, "running", range(PARTITIONS))
    # Nobody can know of the new partitions before they hold something.
    for worker in workers:
        worker.suspend()
    admin = AdminClient({"bootstrap.servers": deployment.settings.kafka.bootstrap_servers})
    (added,) = admin.create_partitions([NewPartitions(deployment.settings.topics.uploads, MORE_PARTITIONS)]).values()
    added.result()
    send(deployment, "unknown", range(PARTITIONS, MORE_PARTITIONS))
    for worker in workers:
        worker.resume()
    send(deployment, "known", range(MORE_PARTITIONS))
    expected = sorted(
        [f"{when}-{n}" for when in answered for n in range(PARTITIONS)]
        + [f"unknown-{n}" for n in range(PARTITIONS, MORE_PARTITIONS)]
        + [f"known-{n}" for n in range(MORE_PARTITIONS)]
    )
    until(lambda: len(deployment.verdicts()) >= len(expected), 90, lambda: f"{ids(deployment)} of {expected}")
    assert ids(deployment) == expected


def send(deployment: Deployment, when: str, partitions: range) -> None:
    value = jpeg(photo("camera.png"))
    deployment.send(SentUpload(f"{when}-{n}", value, partition=n) for n in partitions)


def ids(deployment: Deployment) -> list[str]:
    return sorted(verdict.upload_id for verdict in deployment.verdicts())

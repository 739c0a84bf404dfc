"""Topics must stay what they were when the stages began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stream.errors import PartitionCountChanged, TopicReplaced
from stream.kafka import Topic


def check_topics(
    then: Mapping[str, Topic],
    ask: Callable[[Sequence[str]], Mapping[str, Topic]],
    uploads: str,
    by_tenant: Sequence[str],
) -> None:
    """Ask what the topics are now.

    A consumer of a topic that is deleted and created anew goes on at its old offset inside the new log and skips what
    is before it. More partitions of `uploads` change nothing, of the topics by tenant they change the judges.

    Raises:
        TopicReplaced, PartitionCountChanged: a topic is not the one the stages began with.
        TopicMissing, TransientError: it is not known.
    """
    now = ask([uploads, *by_tenant])
    for name in (uploads, *by_tenant):
        if now[name].topic_id != then[name].topic_id:
            raise TopicReplaced(
                f"{name} had topic id {then[name].topic_id} at start and has {now[name].topic_id} now: it was deleted "
                "and created anew while this worker ran. Stop all workers; when they start again they name the fix."
            )
    for name in by_tenant:
        if now[name].partitions != then[name].partitions:
            raise PartitionCountChanged(
                f"{name} had {then[name].partitions} partitions at start and has {now[name].partitions} now: tenants "
                "would change their judge. Stop all workers; see ARCHITECTURE.md, 'Changing the partition count'."
            )

"""Every error dejaview raises, each with its policy.

    DejaviewError
    ├── SettingError         refuse to start: a setting is wrong; the message names it and the fix
    │   └── RuntimeUnusable  `model.runtime: auto` goes on to the next runtime
    ├── ItemError            the item's own fault: one dead letter with `reason`, the partition goes on
    ├── TransientError       not the item's fault: pause, keep polling, retry, judge nothing meanwhile
    │   ├── IndexUnavailable
    │   ├── StoreUnavailable
    │   ├── BrokerUnavailable
    │   │   └── ProducerBroken
    │   ├── SandboxUnavailable
    │   └── EncoderBroken
    ├── BatchAborted         forget the batch in hand and judge it again
    └── StageStopped         going on would break a promise: stop the stage and say what to do
        ├── LedgerGap
        ├── PartitionCountChanged
        ├── WrongCollection
        ├── TopicMissing
        ├── TopicReplaced
        ├── NotPermitted
        ├── OffsetLost
        ├── EncoderLost
        └── ParityFailed

Errors of third parties are translated where the third party is imported: `kafka.py`,
`neighbours/milvus.py`, `intake/`, `models/runtimes/`.
"""

from __future__ import annotations

from enum import StrEnum

from schemas.events import DETAIL_CHARS_MAX, Reason


class PassedOver(StrEnum):
    """Why a runtime was not taken: the values of a metric's label."""

    NOT_INSTALLED = "not_installed"
    IMPORT_FAILED = "import_failed"
    NO_GPU = "no_gpu"
    DRIVER_TOO_OLD = "driver_too_old"
    BUILT_WITHOUT_CUDA = "built_without_cuda"
    BUILD_FAILED = "build_failed"
    BROKEN = "broken"
    PARITY_FAILED = "parity_failed"


class DejaviewError(Exception):
    """Base of the tree. `str(error)` is written for the person who runs dejaview."""


class SettingError(DejaviewError):
    """A setting is missing, malformed or contradicts another."""


class RuntimeUnusable(SettingError):
    """This machine cannot run the encoder's runtime."""

    def __init__(self, why: PassedOver, detail: str) -> None:
        super().__init__(detail)
        self.why = why


class ItemError(DejaviewError):
    """One upload cannot be judged, whoever tries: it gets a dead letter with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:DETAIL_CHARS_MAX]


class TransientError(DejaviewError):
    """Something dejaview depends on is away. Nothing is judged until it is back."""


class IndexUnavailable(TransientError):
    """Milvus did not answer, or not completely."""


class StoreUnavailable(TransientError):
    """The store behind an upload's URI did not answer (503, time-out, connection refused)."""


class BrokerUnavailable(TransientError):
    """Kafka did not answer."""


class ProducerBroken(BrokerUnavailable):
    """A producer that librdkafka has given up; only a new one goes on."""


class SandboxUnavailable(TransientError):
    """A decoder process could not be started."""


class EncoderBroken(TransientError):
    """The runtime failed on a batch."""


class BatchAborted(DejaviewError):
    """The batch in hand cannot be committed (rebalance, fencing, index fell back): judge it again."""


class StageStopped(DejaviewError):
    """The stage ends with a message that names the cause and the fix."""


class LedgerGap(StageStopped):
    """The index claims progress that the ledger does not hold, or another ledger's."""


class PartitionCountChanged(StageStopped):
    """The number of partitions is not the one the index was built with."""


class WrongCollection(StageStopped):
    """The collection has another dimension, metric or model than this deployment."""


class TopicMissing(StageStopped):
    """A topic does not exist."""


class TopicReplaced(StageStopped):
    """A topic was deleted and created anew while the stage ran."""


class NotPermitted(StageStopped):
    """The broker or the index refused these credentials."""


class OffsetLost(StageStopped):
    """The committed offset is no longer on the broker: retention deleted uploads that were not judged."""


class EncoderLost(StageStopped):
    """The GPU has given this process up; only a new process computes again."""


class ParityFailed(StageStopped):
    """The runtime does not reproduce the golden vectors."""

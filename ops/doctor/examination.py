"""The whole examination, in the order in which things depend on each other."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.broker import BrokerChecks
from ops.doctor.index import IndexChecks
from ops.doctor.intake import intake_checks
from ops.doctor.model import ModelChecks
from ops.doctor.report import Finding, examine
from ops.doctor.setup import setup_checks
from stream.config import Settings

# The longest honest check makes, loads and drops a collection: a few seconds, on a busy machine some more.
CHECK_TIMEOUT_S = 60.0
# Somebody waits for the answer: a server that is away is given up sooner than by a worker.
CALL_TIMEOUT_S = 10.0


def examination(settings: Settings) -> Iterator[Finding]:
    """Look at everything; findings as they are made."""
    patient = impatient(settings)
    kafka, model = BrokerChecks(patient), ModelChecks(patient.model, patient.encode.batch_items_max)
    index = IndexChecks(patient.index, model, kafka)
    checks = [
        *setup_checks(patient),
        *model.checks(),
        *kafka.checks(),
        *index.checks(),
        *intake_checks(patient.intake),
    ]
    try:
        yield from examine(checks, CHECK_TIMEOUT_S)
    finally:
        index.close()


def impatient(settings: Settings) -> Settings:
    """The same settings with shorter waits for servers."""
    call_s = min(settings.kafka.request_timeout_s, CALL_TIMEOUT_S)
    kafka = settings.kafka.model_copy(update={"request_timeout_s": call_s})
    index = settings.index.model_copy(update={"timeout_s": min(settings.index.timeout_s, CALL_TIMEOUT_S)})
    return settings.model_copy(update={"kafka": kafka, "index": index})

"""dejaview inside this program: librdkafka's mock cluster, Milvus Lite, all stages. Gone afterwards."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from stream.config import HealthSettings, IndexSettings, IntakeSettings, KafkaSettings, Settings, TopicSettings
from stream.errors import StageStopped
from stream.kafka import EmbeddedBroker
from stream.service import ALL_STAGES, Service

READY_TIMEOUT_S = 120.0
_LOOK_AGAIN_S = 0.05
_GLOG_FOLDER = "GLOG_log_dir"


class _Alone(Settings):
    """Settings that no environment variable changes: the demo never talks to a deployment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def settings_for(bootstrap_servers: str, index_file: Path, uploads_folder: Path) -> Settings:
    return _Alone(
        delivery="at_least_once",
        # Clients that outlive the broker for a moment would complain on the terminal.
        kafka=KafkaSettings(bootstrap_servers=bootstrap_servers, options={"log_level": "0"}),
        # One topic for all three verdicts, as the settings allow: they are read in the order they were given.
        topics=TopicSettings(unique="dejaview.verdicts", duplicate="dejaview.verdicts", review="dejaview.verdicts"),
        index=IndexSettings(uri=str(index_file), index_type="FLAT"),
        intake=IntakeSettings(file_roots=[uploads_folder]),
        health=HealthSettings(port=0),
    )


@contextmanager
def embedded_service(folder: Path, uploads_folder: Path) -> Iterator[Service]:
    """A running service; broker, index and threads end with the block.

    Raises:
        DejaviewError: it did not start; the message says why.
    """
    broker = EmbeddedBroker()
    index_file = folder / "index.db"
    settings = settings_for(broker.bootstrap_servers, index_file, uploads_folder)
    with _milvus_lite_logs_into(folder):
        service = Service(settings, ALL_STAGES, embedded=True)
        try:
            service.start()
            yield service
        finally:
            service.close()


def wait_until_ready(service: Service) -> None:
    """Until every condition that the stages announced holds.

    Raises:
        StageStopped: a stage ended, or not ready in `READY_TIMEOUT_S`.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while missing := service.health.missing():
        raise_failure(service)
        if time.monotonic() > deadline:
            reasons = "; ".join(f"{condition}: {why}" for condition, why in missing.items())
            raise StageStopped(f"not ready after {READY_TIMEOUT_S:g} s: {reasons}")
        time.sleep(_LOOK_AGAIN_S)
    raise_failure(service)


def raise_failure(service: Service) -> None:
    """Raise what ended a stage, if one has ended."""
    if service.failure is not None:
        raise service.failure
    if service.stop.is_set():
        raise StageStopped("the stages were told to stop")


@contextmanager
def logs_into(file: Path) -> Iterator[None]:
    """All log records go to a file; the terminal shows the pictures."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root, own = logging.getLogger(), logging.getLogger("dejaview")
    before = (list(root.handlers), own.level)
    root.handlers = [handler]
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers = before[0]
        own.setLevel(before[1])
        handler.close()


@contextmanager
def _milvus_lite_logs_into(folder: Path) -> Iterator[None]:
    """Its process writes log files (glog) into the folder for temporary files, and never removes them."""
    before = os.environ.get(_GLOG_FOLDER)
    os.environ[_GLOG_FOLDER] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_GLOG_FOLDER]
        else:
            os.environ[_GLOG_FOLDER] = before

"""The encoder of the ENCODE stage: the runtime that the settings ask for, and on /metrics what was passed over."""

from __future__ import annotations

from models.encoder import Chosen, Options, choose_encoder
from stream.config import Settings
from stream.encode import STAGE
from stream.health import Health
from stream.metrics import Metrics

# A start may take this long before /livez calls the stage stalled: TensorRT builds its engine for minutes.
START_S = 900.0


def open_encoder(settings: Settings, metrics: Metrics, health: Health) -> Chosen:
    """Open it for the batches of `encode.batch_items_max`.

    Raises:
        SettingError, ParityFailed, EncoderBroken, EncoderLost: see `models.encoder.choose_encoder`.
    """
    model = settings.model
    options = Options(model.threads, settings.encode.batch_items_max, model.engine_cache)
    with health.busy(STAGE, START_S):
        chosen = choose_encoder(model.runtime, model.weights, options)
    for one in chosen.not_taken:
        metrics.passed_over.labels(one.runtime, one.why).set(1)
    return chosen

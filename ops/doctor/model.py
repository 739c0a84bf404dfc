"""The model: are these the files that were shipped, and does this machine compute with them what it should?"""

from __future__ import annotations

import time
from pathlib import Path

from models.encoder import BATCH_ITEMS, Options, choose_encoder
from models.manifest import ALL_FILES, BUILT_IN, read_manifest, verified
from models.model import load_model
from ops.doctor.report import Check, Finding, ok
from stream.config import ModelSettings
from stream.errors import PassedOver

WEIGHTS, ENCODER = "weights", "encoder"


class ModelChecks:
    """`model_id` is known once the weights were found to be whole."""

    def __init__(self, settings: ModelSettings, batch_items: int = BATCH_ITEMS) -> None:
        """Check with the settings of the model, and an encoder for the batches of `encode.batch_items_max`."""
        self._settings = settings
        self._batch_items = batch_items
        self.model_id = ""

    @property
    def _folder(self) -> Path:
        return self._settings.weights or BUILT_IN

    def checks(self) -> list[Check]:
        return [
            Check(WEIGHTS, self._weights, fix=f"restore {self._folder}, or correct model.weights"),
            Check(
                ENCODER,
                self._encoder,
                (WEIGHTS,),
                "choose another model.runtime (auto takes the first that works here), or install this one anew; if "
                f"none agrees, the golden vectors are another model's: restore {self._folder}",
            ),
        ]

    def _weights(self) -> list[Finding]:
        verified(self._folder, read_manifest(self._folder), ALL_FILES)
        self.model_id = load_model(self._folder).model_id
        return [ok(WEIGHTS, f"{self.model_id}: {len(ALL_FILES)} files have the SHA-256 of the manifest")]

    def _encoder(self) -> list[Finding]:
        settings = self._settings
        begun = time.monotonic()
        # Raises unless the golden vectors come out.
        options = Options(settings.threads, self._batch_items, settings.engine_cache)
        found = choose_encoder(settings.runtime, settings.weights, options)
        took_s = time.monotonic() - begun
        chosen = f" (model.runtime {settings.runtime})"
        passed = [f"{one.runtime} ({one.why})" for one in found.not_taken if one.why is not PassedOver.NOT_INSTALLED]
        instead = f"; passed over: {', '.join(passed)}" if passed else ""
        return [
            ok(
                ENCODER,
                f"{found.encoder.runtime}{chosen} reproduces the golden vectors; loaded in {took_s:.1f} s{instead}",
            )
        ]

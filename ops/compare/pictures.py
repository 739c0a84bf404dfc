"""Small pictures of uploads, read from where their records lie, decoded in the sandbox."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from PIL import Image

from models.photos import thumbnail_url
from ops.cli.errors import CommandError
from ops.cli.replay import Place, fetch_from
from schemas.cloudevents import BadEvent, read_upload
from schemas.events import UploadReference
from stream.config import Settings
from stream.errors import ItemError, SandboxUnavailable, StoreUnavailable
from stream.intake.decode import UndecodableError
from stream.intake.fetch import Fetcher
from stream.intake.sandbox import DecoderPool
from stream.kafka import LogReader

SIDE = 160


class Pictures:
    """Of one deployment's uploads. What cannot be shown has no address: the record is gone, say."""

    def __init__(self, settings: Settings) -> None:
        """Start the decoders.

        Raises:
            SettingError: a folder of intake is missing.
        """
        self._settings = settings
        self._fetcher = Fetcher(settings.intake)
        self._decoders = DecoderPool(settings.intake)
        self._readers: dict[str, LogReader] = {}
        self._known: dict[Place, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decoders.close()
        for reader in self._readers.values():
            reader.close()

    def address(self, place: Place | None) -> str:
        """A data URL, or nothing.

        Raises:
            BrokerUnavailable, NotPermitted.
        """
        if place is None:
            return ""
        if place not in self._known:
            self._known[place] = self._load(place)
        return self._known[place]

    def _load(self, place: Place) -> str:
        if place.topic not in self._readers:
            self._readers[place.topic] = LogReader(self._settings, place.topic)
        try:
            record = fetch_from(self._readers[place.topic], place, self._settings.kafka.request_timeout_s)
            content = read_upload(record.headers, record.value).content
            data = self._fetcher.fetch(content) if isinstance(content, UploadReference) else content
            pixels = self._decoders.decode(data).pixels
        except (CommandError, BadEvent, ItemError, UndecodableError, StoreUnavailable, SandboxUnavailable):
            return ""
        return thumbnail_url(Image.fromarray(pixels), SIDE)

"""Where a library comes from: a folder, a list of addresses, or a topic of upload events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.cli.errors import CommandError
from ops.cli.pictures import Picture
from ops.cli.replay import records_from
from ops.cli.send import records
from schemas.cloudevents import claimed_id, raw_tenant, upload_headers
from schemas.events import UPLOAD_ID_CHARS_MAX, UploadReference
from stream.config import Settings
from stream.kafka import Admin, Outgoing

SOURCE = "/dejaview/backfill"
# Records of up to 20 MB each.
READ_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Item:
    """One upload of the library. Without an id (no valid event) it cannot be told from others: it is always sent."""

    tenant: str | None
    upload_id: str | None
    record: Outgoing


def from_pictures(pictures: Iterable[Picture], tenant: str, topic: str) -> Iterator[Item]:
    """Files as references, which are read by ENCODE in this process; one that no reference can name goes inline.

    Raises:
        CommandError: a file cannot be read.
    """
    for picture in pictures:
        name = str(picture.file.absolute())
        plain = name.isprintable() and ".." not in picture.file.parts and not any(sign in name for sign in "%?#")
        for record in records([picture], tenant, "reference" if plain else "inline", topic):
            yield Item(tenant, picture.upload_id, record)


def from_addresses(lines: Iterable[str], tenant: str, topic: str) -> Iterator[Item]:
    """A line each: the address, or upload id, tab and address. Without an id the address is it.

    Raises:
        CommandError: a line's id or address is too long; the message has its number.
    """
    for number, line in enumerate(lines, start=1):
        text = line.strip(" \r\n")
        if not text:
            continue
        given, tab, rest = text.partition("\t")
        upload_id, uri = (given, rest.strip()) if tab else (text, text)
        if not upload_id or len(upload_id) > UPLOAD_ID_CHARS_MAX or not upload_id.isprintable():
            raise CommandError(
                f"line {number}: an upload id has 1 to {UPLOAD_ID_CHARS_MAX} printable characters; write an id, a tab "
                "and the address"
            )
        try:
            value = UploadReference(uri=uri).model_dump_json(exclude_none=True).encode()
        except ValueError as error:
            raise CommandError(f"line {number}: {uri[:80]!r} is no address, or too long") from error
        headers = upload_headers(upload_id, tenant, "application/json", SOURCE)
        yield Item(tenant, upload_id, Outgoing(topic, value, headers, key=upload_id.encode()))


def from_topic(settings: Settings, name: str) -> Iterator[Item]:
    """The upload events of a topic, as they are, to its end as it is now; in order within a partition.

    Raises:
        CommandError: it is one of this deployment's own. TopicMissing, BrokerUnavailable, NotPermitted.
    """
    topics = settings.topics
    if name in {topics.backfill, topics.backfilled, topics.fingerprints, topics.ledger, *topics.verdicts}:
        raise CommandError(f"{name} is a topic that dejaview writes itself; name one of upload events")
    count = Admin(settings).partition_counts([name])[name]
    for record in records_from(settings, name, dict.fromkeys(range(count), 0), READ_AT_ONCE):
        tenant = raw_tenant(record.headers, record.value)
        upload_id = claimed_id(record.headers, record.value)
        copy = Outgoing(topics.backfill, record.value or b"", list(record.headers), key=record.key)
        yield Item(tenant.decode("utf-8", "replace") if tenant is not None else None, upload_id, copy)


def read_lines(file: Path) -> list[str]:
    """The lines of a list of addresses.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"{file}: {reason}") from error

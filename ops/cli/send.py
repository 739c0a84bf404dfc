"""`dejaview send`: image files as upload events."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from ops.cli.display import progress_bar
from ops.cli.errors import CommandError
from ops.cli.pictures import Picture, find_pictures
from ops.cli.settings import add_settings_options, load_settings
from schemas.cloudevents import upload_headers
from schemas.events import TENANT_PATTERN, UploadReference
from stream.config import Settings
from stream.kafka import Admin, LogProducer, Outgoing

Form = Literal["inline", "reference", "by_size"]

INLINE_BYTES_MAX = 900_000
SOURCE = "/dejaview/send"
# What may be unacknowledged at any time.
IN_FLIGHT_BYTES_MAX = 16_000_000
IN_FLIGHT_RECORDS_MAX = 200
FLUSH_INTERVAL_S = 1.0
_RECORD_HEADROOM_BYTES = 10_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `send`."""
    parser = subparsers.add_parser(
        "send",
        help="send image files as uploads",
        description="Sends image files, and those in folders, as upload events. Files above "
        f"{INLINE_BYTES_MAX:,} bytes are sent as file:// references.",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument("--tenant", type=tenant_of, default="default", metavar="T", help="default: %(default)s")
    parser.add_argument("--rate", type=rate_of, metavar="N", help="uploads a second at most")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--reference", dest="form", action="store_const", const="reference", help="all as references")
    form.add_argument("--inline", dest="form", action="store_const", const="inline", help="all with their bytes")
    parser.add_argument(
        "--ids", choices=("name", "random"), default="name", help="upload ids: the file's name in the folder, or random"
    )
    add_settings_options(parser)
    parser.set_defaults(func=run, form="by_size")


def run(args: argparse.Namespace) -> int:
    """Send all files; returns when the broker has them all.

    Raises:
        CommandError, BrokerUnavailable, TopicMissing, NotPermitted: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    pictures = find_pictures(args.paths, args.ids)
    topics = settings.topics
    _refuse_unsendable(pictures, args.form, topics.message_bytes_max)
    Admin(settings).partition_counts([topics.uploads])
    _explain_references(pictures, args.form)
    sent = 0
    try:
        with progress_bar() as progress:
            bar = progress.add_task("sending", total=len(pictures))
            for sent in send(settings, records(pictures, args.tenant, args.form, topics.uploads), args.rate):
                progress.update(bar, completed=sent)
    finally:
        what = f"{sent} of {len(pictures)}" if sent < len(pictures) else str(sent)
        print(f"sent {what} uploads of tenant {args.tenant} to {topics.uploads}")
    return 0


def records(pictures: Iterable[Picture], tenant: str, form: Form, topic: str) -> Iterator[Outgoing]:
    """Upload events; each file is read when its turn comes.

    Raises:
        CommandError: a file cannot be read.
    """
    for picture in pictures:
        key = picture.upload_id.encode()
        if as_reference(picture, form):
            value = UploadReference(uri=f"file://{_path(picture.file)}").model_dump_json(exclude_none=True).encode()
            headers = upload_headers(picture.upload_id, tenant, "application/json", SOURCE)
        else:
            value = _content(picture.file)
            headers = upload_headers(picture.upload_id, tenant, picture.content_type, SOURCE)
        yield Outgoing(topic, value, headers, key=key)


def send(
    settings: Settings, outgoing: Iterable[Outgoing], rate: float | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[int]:
    """Produce records, at most `rate` a second; yields how many the broker has acknowledged.

    Raises:
        BrokerUnavailable, TopicMissing, NotPermitted: some of what was produced since the last flush did not arrive.
    """
    producer = LogProducer(settings)
    produced = in_flight_bytes = in_flight = 0
    started = flushed = clock()
    for record in outgoing:
        if rate is not None:
            time.sleep(max(0.0, started + produced / rate - clock()))
        producer.produce([record])
        produced += 1
        in_flight += 1
        in_flight_bytes += len(record.value)
        full = in_flight >= IN_FLIGHT_RECORDS_MAX or in_flight_bytes >= IN_FLIGHT_BYTES_MAX
        if full or clock() - flushed >= FLUSH_INTERVAL_S:
            producer.flush()
            in_flight = in_flight_bytes = 0
            flushed = clock()
            yield produced
    producer.flush()
    yield produced


def as_reference(picture: Picture, form: Form) -> bool:
    return form == "reference" or (form == "by_size" and picture.byte_count > INLINE_BYTES_MAX)


def _path(file: Path) -> str:
    """Absolute, as intake takes it: unquoted, without dots."""
    return str(file.resolve() if ".." in file.parts else file.absolute())


def _refuse_unsendable(pictures: Iterable[Picture], form: Form, bytes_max: int) -> None:
    for picture in pictures:
        if as_reference(picture, form):
            if not _path(picture.file).isprintable() or any(sign in _path(picture.file) for sign in "%?#"):
                raise CommandError(f"{picture.file}: a reference takes no name with %, ?, # or control characters")
        elif picture.byte_count + _RECORD_HEADROOM_BYTES > bytes_max:
            raise CommandError(
                f"{picture.file}: {picture.byte_count} bytes do not fit into a record "
                f"(topics.message_bytes_max {bytes_max}); send it with --reference"
            )


def _explain_references(pictures: Iterable[Picture], form: Form) -> None:
    folders = {str(Path(_path(picture.file)).parent) for picture in pictures if as_reference(picture, form)}
    if folders:
        print(
            "Some files are sent as file:// references: workers must see them under the same path, "
            f"and need intake.file_roots to hold their folder ({min(folders, key=len)}).",
            file=sys.stderr,
        )


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error


def tenant_of(text: str) -> str:
    """A tenant of a command line."""
    if not re.fullmatch(TENANT_PATTERN.removeprefix("^").removesuffix("$"), text):
        raise argparse.ArgumentTypeError("a tenant is 1 to 64 letters, digits, '.', '_' and '-', the first no sign")
    return text


def rate_of(text: str) -> float:
    """A rate of a command line: a number above 0."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate

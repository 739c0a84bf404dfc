"""`dejaview local`: Kafka and Milvus on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.local.stack import Addresses

DATA_DEFAULT = Path(".dejaview/local")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `local`."""
    parser = subparsers.add_parser("local", help="start and stop Kafka and Milvus on this machine")
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--data", type=Path, default=DATA_DEFAULT, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--kafka-port", type=int, metavar="PORT", help="up: default 9092, or a free one")
    parser.add_argument("--milvus-port", type=int, metavar="PORT", help="up: default 19530, or a free one")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; `status` exits with 1 when nothing runs."""
    # Imported here: Windows has no fcntl, and the other commands do not need it.
    from ops.local.platforms import refuse_windows  # noqa: PLC0415

    refuse_windows()
    if args.action == "up":
        return _up(args)
    return _down(args) if args.action == "down" else _status(args)


def _up(args: argparse.Namespace) -> int:
    from ops.local.stack import LocalStack  # noqa: PLC0415

    print("Starting Kafka and Milvus; the first time they are downloaded (about 150 MB).", file=sys.stderr)
    addresses = LocalStack(args.data).up(args.kafka_port, args.milvus_port)
    print(f"Kafka   {addresses.bootstrap}\nMilvus  {addresses.milvus_uri}\nData    {args.data.absolute()}\n")
    exports = _exports(addresses)
    if exports:
        print("The usual ports are taken. Tell this shell:\n" + "\n".join(f"  {line}" for line in exports) + "\n")
    print("Next:\n  dejaview topics create\n  dejaview run\n  dejaview send PATHS      (in another shell)")
    return 0


def _exports(addresses: Addresses) -> list[str]:
    """What a shell must be told when the servers are not where the settings look by default."""
    from ops.local.stack import KAFKA_PORT, MILVUS_PORT  # noqa: PLC0415

    lines = []
    if not addresses.bootstrap.endswith(f":{KAFKA_PORT}"):
        lines.append(f"export DEJAVIEW_KAFKA__BOOTSTRAP_SERVERS={addresses.bootstrap}")
    if not addresses.milvus_uri.endswith(f":{MILVUS_PORT}"):
        lines.append(f"export DEJAVIEW_INDEX__URI={addresses.milvus_uri}")
    return lines


def _down(args: argparse.Namespace) -> int:
    from ops.local.stack import LocalStack  # noqa: PLC0415

    ended = LocalStack(args.data).down() if args.data.is_dir() else []
    print(f"Ended {' and '.join(ended)}." if ended else f"Nothing was running in {args.data.absolute()}.")
    return 0


def _status(args: argparse.Namespace) -> int:
    from ops.local.stack import LocalStack  # noqa: PLC0415

    servers = LocalStack(args.data).status() if args.data.is_dir() else []
    for server in servers:
        state = f"running  {server.address}  pid {server.pid}" if server.running else "stopped"
        print(f"{server.name:7} {state}  log {server.log}")
    if not any(server.running for server in servers):
        print(f"Nothing is running in {args.data.absolute()}.")
        return 1
    return 0

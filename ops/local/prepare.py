"""`python -m ops.local.prepare`: fetch what Kafka and Milvus need, so that no test waits for a download."""

from __future__ import annotations

import sys

from ops.local.errors import LocalError
from ops.local.kafka import fetch_jars
from ops.local.milvus import fetch_package
from ops.local.platforms import ensure_java, refuse_windows


def main() -> int:
    """Exit status: 0 when everything is there."""
    try:
        refuse_windows()
        ensure_java()
        fetch_jars()
        fetch_package()
    except LocalError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

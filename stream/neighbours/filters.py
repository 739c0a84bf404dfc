"""The only place where a Milvus filter is written.

An empty or clever name in a filter has opened whole collections elsewhere. Here every value is
matched against its pattern first, none of which allows a quote, a backslash or a space, so that no
value leaves its quotes; anything else is a ValueError and no request is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from schemas.events import TENANT_PATTERN
from stream.neighbours.protocol import Link

# The tenant of links. No upload can name it: a tenant starts with a letter or a digit.
LINKS_TENANT = "_links"

_TENANT = re.compile(TENANT_PATTERN)
_ROW_ID = re.compile(r"[0-9a-f]{32}")
# Kafka writes topic ids in URL-safe base64, librdkafka in plain base64.
_TOPIC_ID = re.compile(r"[A-Za-z0-9+/=_.-]{1,64}")
_OFFSET_MAX = 2**63 - 1


def tenant_rows(tenant: str) -> str:
    """The rows of one tenant."""
    return f'tenant == "{checked_tenant(tenant)}"'


def ids(wanted: Sequence[str | Link]) -> str:
    """The rows of these ids and these links, one at least."""
    if not wanted:
        raise ValueError("a filter over no ids would be one over nothing or everything; ask for one at least")
    keys = (checked_link_id(one) if isinstance(one, Link) else checked_row_id(one) for one in wanted)
    listed = ", ".join(f'"{key}"' for key in dict.fromkeys(keys))
    return f"row_id in [{listed}]"


def all_rows() -> str:
    """The rows of all tenants, for counting: everything but links."""
    return f'tenant != "{LINKS_TENANT}"'


def links_of(ledger_topic_id: str | None, since: Mapping[int, int] | None) -> str:
    """The links of a ledger's partitions, of each those that start at its offset or later; one partition at least.

    None stands for all ledgers, or all links of all partitions.
    """
    parts = [f'tenant == "{LINKS_TENANT}"']
    if ledger_topic_id is not None:
        parts.append(f'upload_id == "{checked_topic_id(ledger_topic_id)}"')
    if since is not None:
        if not since:
            raise ValueError("a filter over no partitions would be one over all; name one at least")
        starts = (
            f"(ledger_partition == {_checked_number(number)} and ledger_offset >= {_checked_number(start)})"
            for number, start in since.items()
        )
        parts.append(f"({' or '.join(starts)})")
    return " and ".join(parts)


def checked_tenant(tenant: str) -> str:
    """The tenant itself.

    Raises:
        ValueError: not a tenant's name.
    """
    return _checked(_TENANT, tenant, "tenant")


def checked_row_id(row_id: str) -> str:
    """The row id itself.

    Raises:
        ValueError: not 32 hex digits.
    """
    return _checked(_ROW_ID, row_id, "row id")


def checked_topic_id(topic_id: str) -> str:
    """The topic id itself.

    Raises:
        ValueError: empty, longer than 64 or with other characters than those of base64, `.`, `_` and `-`.
    """
    return _checked(_TOPIC_ID, topic_id, "topic id")


def checked_link_id(link: Link) -> str:
    """The link's primary key, its parts checked.

    Raises:
        ValueError: a topic id that is none, or numbers that are none.
    """
    checked_topic_id(link.ledger_topic_id)
    for number in (link.ledger_partition, link.start, link.end):
        _checked_number(number)
    return link.link_id


def _checked(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"not a {what}: {str(value)[:80]!r}")
    return value


def _checked_number(value: int) -> int:
    if type(value) is not int or not 0 <= value <= _OFFSET_MAX:
        raise ValueError(f"not a partition or offset: {str(value)[:80]!r}")
    return value

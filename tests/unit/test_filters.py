"""Promise: no name, however hostile, gets into a Milvus filter; a filter always names one tenant, one list
of ids or the links, never everything.

Breaks that these tests catch, each tried: `_checked` using `match` instead of `fullmatch`; `_one_of`
without its check for an empty list; `LINKS_TENANT` renamed to a name that a tenant could have.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.events import TENANT_PATTERN
from stream.errors import ItemError
from stream.neighbours import filters
from stream.neighbours.protocol import Link
from stream.tenants import parse_tenant, row_id

HOSTILE = [
    "",
    " ",
    "*",
    "%",
    '"',
    "'",
    "a\n",
    "\na",
    'a" or tenant != "',
    "a' or '1'=='1",
    "a\\",
    "a b",
    "é",
    "ａ",
    "a\x00",
]
HOSTILE += ["_links", ".a", "-a", "a" * 65, "a" * 100_000, "tenant in []", "{a}", "a]", "\u202ea", "٣"]

# All that a filter may look like.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
TENANT_FILTER = re.compile(rf'tenant == "{_NAME}"')
IDS_FILTER = re.compile(r'row_id in \["[0-9a-f]{32}"(, "[0-9a-f]{32}")*\]')
_SINCE = r"\(ledger_partition == \d+ and ledger_offset >= \d+\)"
LINKS_FILTER = re.compile(
    r'tenant == "_links"( and upload_id == "[A-Za-z0-9+/=_.-]{1,64}")?' + rf"( and \({_SINCE}( or {_SINCE})*\))?"
)


def only(pattern: re.Pattern[str], make: object, *arguments: object) -> None:
    """Either a ValueError or a filter of this very form."""
    assert callable(make)
    try:
        made = make(*arguments)
    except ValueError:
        return
    assert pattern.fullmatch(made), made


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_make_no_filter(name: str) -> None:
    for make in (filters.tenant_rows, lambda text: filters.ids([text])):
        with pytest.raises(ValueError, match="not a"):
            make(name)


@pytest.mark.parametrize("name", [name for name in HOSTILE if not re.fullmatch(r"[A-Za-z0-9+/=_.-]{1,64}", name)])
def test_hostile_topic_ids_make_no_filter(name: str) -> None:
    with pytest.raises(ValueError, match="not a topic id"):
        filters.links_of(name, {0: 0})
    with pytest.raises(ValueError, match="not a topic id"):
        filters.ids([Link(name, 0, 1, 0, 1, 2**18)])


@given(st.text() | st.binary() | st.none() | st.integers())
@example('a" or "" == "')
def test_whatever_is_given_for_a_tenant(name: object) -> None:
    only(TENANT_FILTER, filters.tenant_rows, name)


@given(st.lists(st.text() | st.from_regex(r"[0-9a-f]{32}", fullmatch=True)))
def test_whatever_is_given_for_ids(names: list[str]) -> None:
    only(IDS_FILTER, filters.ids, names)


numbers = st.none() | st.integers() | st.text() | st.booleans() | st.floats()


@given(st.none() | st.text(), st.none() | st.dictionaries(numbers, numbers, max_size=3))
def test_whatever_is_given_for_links(topic: str | None, since: object) -> None:
    only(LINKS_FILTER, filters.links_of, topic, since)


@given(st.from_regex(TENANT_PATTERN, fullmatch=True).filter(lambda name: not name.endswith("\n")))
def test_a_tenant_gets_its_own_rows_and_never_the_links(tenant: str) -> None:
    assert filters.tenant_rows(tenant) == f'tenant == "{tenant}"'
    assert tenant != filters.LINKS_TENANT


def test_no_upload_can_name_the_tenant_of_links() -> None:
    with pytest.raises(ItemError):
        parse_tenant(filters.LINKS_TENANT.encode(), None)


def test_no_ids_make_no_filter() -> None:
    with pytest.raises(ValueError, match="no ids"):
        filters.ids([])


def test_no_partitions_make_no_filter() -> None:
    with pytest.raises(ValueError, match="no partitions"):
        filters.links_of(None, {})
    with pytest.raises(ValueError, match="not a partition"):
        filters.links_of(None, {0: -1})


def test_filters_of_good_names() -> None:
    key = row_id("a", "0" * 64)
    assert filters.ids([key, key]) == f'row_id in ["{key}"]'
    assert filters.links_of(None, None) == 'tenant == "_links"'
    assert filters.links_of("aB-_9", {3: 0}) == (
        'tenant == "_links" and upload_id == "aB-_9" and ((ledger_partition == 3 and ledger_offset >= 0))'
    )
    assert filters.links_of("t", {3: 5, 0: 0}) == (
        'tenant == "_links" and upload_id == "t" and '
        "((ledger_partition == 3 and ledger_offset >= 5) or (ledger_partition == 0 and ledger_offset >= 0))"
    )
    key = row_id("a", "0" * 64)
    assert filters.ids([key, Link("t", 1, 2, 3, 4, 2**18)]) == f'row_id in ["{key}", "link:t:1:3:4"]'
    assert filters.all_rows() == 'tenant != "_links"'

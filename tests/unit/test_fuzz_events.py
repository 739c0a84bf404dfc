"""R5: no record, whatever its headers and bytes, raises anything but the one documented error, or takes long.

Seeded: `derandomize` takes the same examples in every run; `make fuzz` looks further, with a seed that it prints.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.cloudevents import STRUCTURED, BadEvent, Headers, read_upload
from tests.fuzz import targets
from tests.support.made import fingerprint, panel, random_vector

seeded = settings(derandomize=True, max_examples=400, deadline=5_000, suppress_health_check=[HealthCheck.too_slow])
BYTES_MAX = 20_000_000
SOUND = fingerprint(0, random_vector(0), panels=[panel(5), panel(6)]).model_dump_json().encode()

attribute_names = st.sampled_from(
    ["specversion", "id", "type", "source", "time", "tenant", "traceparent", "subject", "data", "data_base64", "x"]
)
header_names = st.one_of(
    attribute_names.map(lambda name: f"ce_{name}"),
    st.sampled_from(["content-type", "Content-Type", "CE_ID"]),
    st.text(),
)
header_values = st.one_of(
    st.none(),
    st.binary(max_size=300),
    st.text(max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"1.0", b"image/png", b"application/json", STRUCTURED.encode(), b"2026-11-21T00:00:00Z", b"t"]),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat().encode()),
)
usual = st.just(
    [("ce_specversion", b"1.0"), ("ce_type", b"x"), ("ce_source", b"x"), ("ce_id", b"x"), ("ce_tenant", b"t")]
)
headers = st.one_of(st.just([]), usual).flatmap(
    lambda first: st.lists(st.tuples(header_names, header_values), max_size=12).map(lambda more: [*first, *more])
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
structured = st.dictionaries(attribute_names, values | st.sampled_from(["1.0", "image/png", "application/json"]))
references = st.fixed_dictionaries({}, optional={"uri": values, "sha256": values, "x": values})
payloads = st.one_of(
    st.none(),
    st.binary(max_size=200),
    st.one_of(structured, references).map(lambda made: json.dumps(made).encode()),
    st.one_of(structured, references).map(lambda made: json.dumps(made, ensure_ascii=False).encode("utf-8", "replace")),
)


@seeded
@given(headers, payloads)
@example([("content-type", STRUCTURED.encode())], b'{"tenant": ' + b"[" * 990 + b"]" * 990 + b"}")
@example([("content-type", STRUCTURED.encode())], b'{"tenant": ' + b"[" * 9_000 + b"]" * 9_000 + b"}")
@example([("content-type", STRUCTURED.encode())], b'{"tenant": ' + b"1" * 5_000 + b"}")
@example([("content-type", STRUCTURED.encode())], b'{"id": "\\ud800", "tenant": "\\udfff"}')
def test_any_record_is_an_upload_or_a_bad_event(made: Headers, value: bytes | None) -> None:
    """R5: whatever a record holds, it is read, or refused with `BadEvent`; what is read fits a fingerprint record, and
    what is told of it can be read back.

    Breaks, each tried: let UnicodeDecodeError out of `_optional_text`, or RecursionError out of `_structured_object`;
    drop the surrogates from `_CONTROL`.
    """
    targets.event(made, value)


def _wide(head: bytes, item: bytes, tail: bytes) -> bytes:
    return head + item * ((BYTES_MAX - len(head) - len(tail)) // len(item)) + tail


BOMBS = {
    "fields": b'{"uri": "s3://b/k"' + b"".join(b',"%d":1' % n for n in range(1_500_000)) + b"}",
    "lists": _wide(b'{"uri": [', b"[],", b"1]}"),
    "depth": b"[" * BYTES_MAX,
    "tenant": _wide(b'{"tenant": [', b"{},", b"1]}"),
    "digits": b'{"tenant": ' + b"1" * (BYTES_MAX - 12) + b"}",
    "escapes": _wide(b'{"uri": "', b"\\u0041", b'"}'),
}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("mode", [STRUCTURED, "application/json"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_json_bomb_costs_little(mode: str, bomb: str) -> None:
    """R5, R8: 20 MB of JSON of the worst kind is refused within a second, in little more memory than it has itself.

    Breaks, each tried: drop REFERENCE_BYTES_MAX (2 GB, 4 s), or STRUCTURED_VALUES_MAX (0.5 GB, 3 s).
    """
    made = [
        ("ce_id", b"x"),
        ("ce_type", b"x"),
        ("ce_source", b"x"),
        ("ce_tenant", b"t"),
        ("content-type", mode.encode()),
    ]
    made += [("ce_specversion", b"1.0")] if mode != STRUCTURED else []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    with pytest.raises(BadEvent):
        read_upload(made, BOMBS[bomb])
    assert time.process_time() - begin < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


fields = st.sampled_from([*json.loads(SOUND), "kind", "reason", "detail", "headers", "event_time"])
extreme = st.sampled_from(
    [float("nan"), float("inf"), -1.5, 1e308, 10**400, -(10**30), 2**63, "", "x" * 70_000, [], {}]
)


@seeded
@given(st.dictionaries(fields, values | extreme, max_size=3), st.booleans())
@example({"bias": float("nan")}, False)
@example({"panels": [{**json.loads(panel(1).model_dump_json()), "bias": float("nan")}]}, False)
@example({"panels": [{**json.loads(panel(1).model_dump_json()), "bias": -50.0}]}, False)
@example({"upload_timestamp_ms": 10**400}, False)
@example({"timings_s": {"fetch": float("inf")}}, False)
@example({"runtime": "x" * 60_000}, False)
@example({"source_topic": "x; rm -rf ~"}, True)
def test_any_fingerprint_is_judged_or_has_a_dead_letter(changes: dict[str, object], failed: bool) -> None:
    """R5: whatever lies on the fingerprints topic becomes an entry that the ledger gives back, that fits the index, and
    whose dead letter or verdict other people's JSON parsers take.

    Breaks, each tried: drop any part of `incoming._fault`.
    """
    sound = json.loads(SOUND)
    if failed:
        sound = {name: sound[name] for name in ("source", "source_topic", "upload_timestamp_ms", "tenant", "upload_id")}
        sound |= {"kind": "failure", "reason": "bad_image", "detail": "made up"}
    targets.fingerprint(json.dumps({**sound, **changes}).encode())


@seeded
@given(st.binary(max_size=200), st.integers(0, len(SOUND)), st.integers(0, 200))
def test_damaged_fingerprints_are_judged_or_have_a_dead_letter(noise: bytes, place: int, cut: int) -> None:
    """The same of bytes that are no JSON, or JSON that was damaged. Break, tried: let ValidationError out of `work`."""
    targets.fingerprint(SOUND[:place] + noise + SOUND[place + cut :])

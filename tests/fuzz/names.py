"""Tenants' names: odd ones that are allowed, and hostile ones that are not."""

from __future__ import annotations

# Allowed: letters, digits, `.`, `_` and `-`, 64 at most. They look like operators, numbers, paths and each other.
VALID = [
    *("a", "A", "0", "00", "1e5", "0x10", "a" * 64, "a" * 63, "a.", "a..b", "a-", "a--b", "a_", "a__b"),
    *("or", "OR", "and", "not", "in", "like", "true", "null", "tenant", "row_id", "links", "links_", "a_links"),
    *("l", "I", "O", "rn", "m", "acme", "Acme", "ACME", "acme-", "a-or-b", "nan", "None"),
]

# As raw header bytes.
HOSTILE = [
    *(b"", b" ", b"\t", b"\n", b"a\n", b"\na", b"a\r\n", b"a b", b"a\x00", b"\x00", b"a\x7f", b"a\x1b[0m"),
    *(
        b'"',
        b"'",
        b'a"',
        b"a'",
        b"`",
        b"\\",
        b"a\\",
        b'a\\"',
        b'" or tenant != "',
        b'a" or "1" == "1',
        b"a' or '1'=='1",
    ),
    *(
        b"a || b",
        b"a && b",
        b"tenant in []",
        b"*",
        b"%",
        b"a%",
        b"_",
        b"_links",
        b".a",
        b"..",
        b"-a",
        b"a/b",
        b"a;b",
        b"{a}",
    ),
    *(b"a" * 65, b"a" * 100_000, b"\xff", b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xae"),
    # The same to the eye as "acme" or "a": Cyrillic, full width, zero width, marks in both forms, direction, digits.
    *(name.encode() for name in ("\u0430cme", "\uff41cme", "ac\u200bme", "acme\u200d", "\ufeffacme", "acm\u00e9")),
    *(
        name.encode()
        for name in ("acme\u0301", "\u202eacme", "\u2060acme", "a\u0663", "\u24d0", "acme\u00a0", "\u017fa")
    ),
    *(name.encode() for name in ("\u212a", "a\u2024b", "a\u2010b", "\U0001d41acme")),
]

"""Which addresses a fetch may connect to: globally routable unicast, nothing else. Pure.

Source: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and what followed).

IPv6 that carries an IPv4 address inside is refused whatever the inner address is. A gateway decides where such
a packet goes, so checking the inner address would check our reading of it, not the gateway's. Four of the forms
lie outside 2000::/3 and fall with the first rule: v4-compatible ::/96, v4-mapped ::ffff:0:0/96, and NAT64's
64:ff9b::/96 and 64:ff9b:1::/48. 6to4, Teredo and ISATAP lie within it and are named. The price: in a cluster without
IPv4 that reaches IPv4 hosts through DNS64, https references to those hosts are refused.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from schemas.events import Reason
from stream.errors import ItemError

_V4_REFUSED = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "Azure's metadata"),
        ("169.254.0.0/16", "link-local or metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "IETF protocol"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6_UNICAST = IPv6Network("2000::/3")
_V6_REFUSED = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("2001::/23", "IETF protocol or Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
    )
)
# An interface identifier that begins so carries an IPv4 address: RFC 5214, section 6.1.
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def check_address(address: str) -> None:
    """Let a numeric address pass, or refuse it.

    Raises:
        ItemError: `uri_refused`; anything that is not a globally routable unicast address, and what is no address.
    """
    if "%" in address:
        raise _refused(address, "an address with a zone")
    try:
        parsed = ip_address(address)
    except ValueError:
        raise _refused(address, "not an address") from None
    kind = _kind_v4(parsed) if isinstance(parsed, IPv4Address) else _kind_v6(parsed)
    if kind is not None:
        raise _refused(address, f"a {kind} address")


def _kind_v4(address: IPv4Address) -> str | None:
    for network, name in _V4_REFUSED:
        if address in network:
            return name
    # What the standard library knows and the table does not yet.
    return None if address.is_global else "special"


def _kind_v6(address: IPv6Address) -> str | None:
    if address not in _V6_UNICAST:
        return "local, special or IPv4-embedding"
    for network, name in _V6_REFUSED:
        if address in network:
            return name
    if address.packed[8:12] in _ISATAP:
        return "ISATAP"
    return None if address.is_global else "special"


def _refused(address: str, what: str) -> ItemError:
    return ItemError(Reason.URI_REFUSED, f"{address[:80]!r} is {what}; only globally routable ones are fetched from")

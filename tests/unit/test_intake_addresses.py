"""R7: a fetch reaches globally routable unicast addresses only."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Reason
from stream.errors import ItemError
from stream.intake.addresses import check_address

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::200e",
)
REFUSED = {
    "unspecified": ("0.0.0.0", "0.1.2.3", "::"),  # noqa: S104 - an address to refuse
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "private": ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1", "fec0::1"),
    "link-local": ("169.254.0.1", "fe80::1"),
    "metadata": (
        *("169.254.169.254", "169.254.170.2", "169.254.0.23", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"),
    ),
    "carrier NAT": ("100.64.0.1", "100.127.255.255"),
    "multicast": ("224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"),
    "reserved": ("240.0.0.1", "255.255.255.255", "4000::1", "100::1", "5f00::1"),
    "documentation": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    "benchmark": ("198.18.0.1", "198.19.255.255", "2001:2::1"),
    "protocol": ("192.0.0.1", "192.88.99.1", "2001:10::1", "2001:20::1"),
    "v4-mapped": ("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:7f00:1"),
    "v4-compatible": ("::127.0.0.1", "::8.8.8.8"),
    "6to4": ("2002:7f00:1::", "2002:808:808::1"),
    "Teredo": ("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    "NAT64": ("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"),
    "ISATAP": ("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:8.8.8.8"),
    "zone": ("fe80::1%eth0", "2606:4700::1%1"),
    "no address": (
        "",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "010.0.0.1",
        "1.1.1.1 ",
        "[::1]",
        "1.1.1.1:80",
        "1.1.1.1.",
        "1.1.1",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "\uff11.1.1.1",
        "\u0661.1.1.1",
        "1.1.1.1%25",
        "%31.1.1.1",
        "user@1.1.1.1",
        "::ffff:1.1.1",
        "1::2::3",
    ),
}
PRIVATE = [
    IPv4Network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
]
# How an IPv4 address is written into an IPv6 one: the first address of the network, and the shift of the 32 bits.
EMBEDDINGS = {
    "v4-mapped": ("::ffff:0:0", 0),
    "v4-compatible": ("::", 0),
    "NAT64": ("64:ff9b::", 0),
    "local NAT64": ("64:ff9b:1::", 0),
    "6to4": ("2002::", 80),
    "ISATAP": ("2606:4700:0:0:0:5efe::", 0),
    "ISATAP, global": ("2606:4700:0:0:200:5efe::", 0),
    # The client's address is written inverted, the server's as it is; both stand in the network that is refused.
    "Teredo, client": ("2001::", 0),
    "Teredo, server": ("2001::", 64),
    "v4-translated": ("::ffff:0:0:0", 0),
}


def refused(address: str) -> bool:
    try:
        check_address(address)
    except ItemError as error:
        return error.reason is Reason.URI_REFUSED
    return False


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    """A public address passes. Break: widen 100.64.0.0/10 to /8, or 2001::/23 to /16."""
    check_address(address)


@pytest.mark.parametrize(("kind", "address"), [(kind, address) for kind, all_ in REFUSED.items() for address in all_])
def test_refused(kind: str, address: str) -> None:
    """Every other kind of address is refused. Break: take a line out of `_V4_REFUSED`, `_V6_REFUSED` or `_ISATAP`."""
    assert refused(address), kind


@given(st.sampled_from(PRIVATE), st.integers(min_value=0), st.sampled_from(sorted(EMBEDDINGS)))
def test_private_in_every_disguise(network: IPv4Network, number: int, form: str) -> None:
    """No private IPv4 address passes, bare or inside an IPv6 one. Break: return before the ISATAP or 6to4 check."""
    inner = network[number % network.num_addresses]
    base, shift = EMBEDDINGS[form]
    assert refused(str(inner))
    assert refused(str(IPv6Address(int(IPv6Address(base)) + (int(inner) << shift))))


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_what_passes_is_global_v4(number: int) -> None:
    """What passes is global and unicast by the standard library's account too. Break: let 224.0.0.0/4 pass."""
    address = IPv4Address(number)
    assert refused(str(address)) or (address.is_global and not address.is_multicast)


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_what_passes_is_global_v6(number: int) -> None:
    """The same for IPv6, and only from 2000::/3. Break: drop the check of `_V6_UNICAST`."""
    address = IPv6Address(number)
    assert refused(str(address)) or (address.is_global and address in IPv6Network("2000::/3"))

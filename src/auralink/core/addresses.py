"""What kind of place an IP address is: public, or one that a stranger's URL must not lead this service to.

Pure: no sockets, no settings. The lists follow the IANA special-purpose address registries (RFC 6890 and successors) and are
spelled out here because `ipaddress.is_private` and `is_global` change their answers between patch releases of Python.
IPv6 is an allow-list (global unicast less its special blocks), IPv4 a deny-list.
"""

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(StrEnum):
    """The one word that says why an address is not public."""

    PUBLIC = "public"
    METADATA = "cloud metadata"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    SHARED = "carrier-grade NAT"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    TRANSITION = "IPv6 transition"
    RESERVED = "reserved"


class _Block(NamedTuple):
    network: Network
    kind: Kind


def _blocks(kind: Kind, networks: Iterable[str]) -> list[_Block]:
    return [_Block(ip_network(network), kind) for network in networks]


METADATA: frozenset[Address] = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, GCP, OpenStack, DigitalOcean, Oracle
        "169.254.169.253",  # AWS resolver
        "169.254.169.123",  # AWS time
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS pod identity
        "169.254.42.42",  # Scaleway
        "169.254.0.23",  # Tencent
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure wire server, in public space
        "192.0.0.192",  # Oracle Classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",  # AWS resolver
        "fd00:ec2::23",  # AWS EKS pod identity
        "fd20:ce::254",  # GCP
        "fd00:42::42",  # Scaleway
        "fe80::a9fe:a9fe",  # OpenStack
    )
)
"""Addresses that hand credentials of the machine to whoever asks, or configure it."""

_V4 = [
    *_blocks(Kind.LOOPBACK, ["127.0.0.0/8"]),
    *_blocks(Kind.PRIVATE, ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]),
    *_blocks(Kind.LINK_LOCAL, ["169.254.0.0/16"]),
    *_blocks(Kind.SHARED, ["100.64.0.0/10"]),
    *_blocks(Kind.MULTICAST, ["224.0.0.0/4"]),
    *_blocks(Kind.UNSPECIFIED, ["0.0.0.0/8"]),
    *_blocks(
        Kind.RESERVED,
        ["192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"],
    ),
]

_V6 = [
    *_blocks(Kind.LOOPBACK, ["::1/128"]),
    *_blocks(Kind.UNSPECIFIED, ["::/128"]),
    *_blocks(Kind.PRIVATE, ["fc00::/7", "fec0::/10"]),
    *_blocks(Kind.LINK_LOCAL, ["fe80::/10"]),
    *_blocks(Kind.MULTICAST, ["ff00::/8"]),
    *_blocks(Kind.TRANSITION, ["2002::/16", "2001::/32", "64:ff9b:1::/48"]),
    *_blocks(Kind.RESERVED, ["2001::/23", "2001:db8::/32", "3fff::/20"]),
]

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
_SAME_AS_V4 = tuple(IPv6Network(n) for n in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96"))
"""Forms that a kernel or a NAT64 gateway delivers to the IPv4 address in their last 32 bits: mapped, SIIT, NAT64, compatible."""


def kind_of(address: Address) -> Kind:
    """The kind of the address itself; for what it may carry inside, ask this of each of `forms_of`."""
    if address in METADATA:
        return Kind.METADATA
    blocks = _V4 if isinstance(address, IPv4Address) else _V6
    for network, kind in blocks:
        if address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return Kind.RESERVED
    return Kind.PUBLIC


def forms_of(address: Address) -> tuple[Address, ...]:
    """The addresses that a packet to `address` may really reach, the one it is judged by first.

    `::ffff:a.b.c.d` and its like *are* the IPv4 address. 6to4 (RFC 3056), Teredo (RFC 4380) and ISATAP (RFC 5214) stay
    what they are and add the IPv4 addresses they carry.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    plain = IPv6Address(int(address))
    low = IPv4Address(int(plain) & 0xFFFF_FFFF)
    if int(plain) > 1 and any(plain in network for network in _SAME_AS_V4):
        return (low,)
    if plain.sixtofour:
        return (plain, plain.sixtofour)
    if plain.teredo:
        return (plain, *plain.teredo)
    if int(plain) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return (plain, low)
    return (plain,)

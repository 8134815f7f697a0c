"""What kind of place an address is."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralink.core.addresses import METADATA, Kind, forms_of, kind_of

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KINDS = {
    Kind.PUBLIC: "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.167.255.255 "
    "198.17.255.255 223.255.255.255 2606:4700::1111 2a00:1450::1 2001:4860:4860::8888",
    Kind.LOOPBACK: "127.0.0.1 127.255.255.255 ::1",
    Kind.PRIVATE: "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.1 fc00::1 fdff:: fec0::1",
    Kind.LINK_LOCAL: "169.254.0.1 169.254.255.255 fe80::1 febf:: fe80::1%eth0",
    Kind.SHARED: "100.64.0.0 100.127.255.255",
    Kind.MULTICAST: "224.0.0.1 239.255.255.255 ff02::1",
    Kind.UNSPECIFIED: "0.0.0.0 0.1.2.3 ::",
    Kind.RESERVED: "192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1 240.0.0.1 255.255.255.255 "
    "2001:db8::1 2001:20::1 3fff::1 100::1 4000::1 5f00::1 8000::",
    Kind.TRANSITION: "2002:808:808::1 2001:0:808:808::1 64:ff9b:1::a00:1",
    Kind.METADATA: "169.254.169.254 fd00:ec2::254 100.100.100.200 168.63.129.16 169.254.170.2 192.0.0.192 fd20:ce::254",
}


@pytest.mark.parametrize(("address", "kind"), [(a, kind) for kind, list_ in KINDS.items() for a in list_.split()])
def test_every_address_has_its_kind(address: str, kind: Kind) -> None:
    assert kind_of(ip_address(address)) is kind


@pytest.mark.parametrize(
    "form", ["::ffff:{}", "::ffff:0:{}", "64:ff9b::{}", "::{}"], ids=["mapped", "translated", "NAT64", "compatible"]
)
@pytest.mark.parametrize("inner", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "8.8.8.8"])
def test_a_form_that_is_delivered_to_an_ipv4_address_is_that_address(form: str, inner: str) -> None:
    assert forms_of(IPv6Address(form.format(inner))) == (IPv4Address(inner),)


def hex_of(address: str) -> str:
    raw = IPv4Address(address).packed.hex()
    return f"{raw[:4]}:{raw[4:]}"


@pytest.mark.parametrize("inner", ["10.0.0.1", "127.0.0.1", "169.254.169.254"])
def test_an_ipv4_address_inside_a_tunnel_is_found(inner: str) -> None:
    flipped = hex_of(str(IPv4Address(int(IPv4Address(inner)) ^ 0xFFFFFFFF)))
    for tunnel in (
        f"2002:{hex_of(inner)}::1",
        f"2001:0:{hex_of('8.8.8.8')}:0:0:{flipped}",
        f"2606:4700::5efe:{hex_of(inner)}",
        f"2606:4700::200:5efe:{hex_of(inner)}",
    ):
        assert IPv4Address(inner) in forms_of(IPv6Address(tunnel))


@pytest.mark.parametrize("plain", ["::", "::1", "fe80::1", "2606:4700::1"])
def test_a_plain_address_is_only_itself(plain: str) -> None:
    assert forms_of(IPv6Address(plain)) == (IPv6Address(plain),)


@patient
@given(st.ip_addresses())
def test_what_is_called_public_is_global_to_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    if all(kind_of(form) is Kind.PUBLIC for form in forms_of(address)):
        judged = forms_of(address)[0]
        assert judged.is_global
        assert not any((judged.is_private, judged.is_reserved, judged.is_multicast, judged.is_link_local))


def test_no_metadata_address_has_another_kind() -> None:
    assert {kind_of(address) for address in METADATA} == {Kind.METADATA}

"""The SSRF guard, against a corpus of tricks, and at the socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from auralink.core.egress import CheckedTarget, EgressGuard, EgressRefused, HostNotFound, PinnedResolver
from auralink.core.secret import Secret

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

GUARD = EgressGuard()
PUBLIC = "93.184.215.14"


def words(text: str) -> list[str]:
    return text.split()


def allowing(*networks: str) -> EgressGuard:
    return EgressGuard([ip_network(network) for network in networks])


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What each name resolves to; of several answers each is given once, the last one for ever."""
    answers: dict[str, list[list[str]]] = {}
    real = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if host not in answers:
            return await real(host, port, **options | {"flags": socket.AI_NUMERICHOST})
        given = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [_info(address, port) for address in given]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return answers


def _info(address: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, 6, "", (address, port, 0, 0) if ":" in address else (address, port))


INTERNAL = words("""
    http://127.0.0.1/ http://127.0.0.1./ http://127.1/ http://127.0.1/ http://127.127.127.127/ http://2130706433/ http://017700000001/
    http://0177.0.0.1/ http://00000177.0.0.1/ http://0x7f000001/ http://0X7F.1/ http://0x7f.0x0.0x0.0x1/ http://0x7f.0.0.01/ http://0/
    http://0.0.0.0/ http://0x0/ http://00/ http://[::]/ http://[::1]/ http://[0:0:0:0:0:0:0:1]/ http://[0000::0001]:80/
    http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[0:0:0:0:0:ffff:127.0.0.1]/ http://[::127.0.0.1]/ http://[::ffff:0:127.0.0.1]/
    http://[64:ff9b::127.0.0.1]/ http://[64:ff9b::a00:1]/ http://[64:ff9b:1::a00:1]/ http://[2002:7f00:1::]/ http://[2002:a00:1::1]/
    http://[2002:808:808::1]/ http://[2001:0:808:808:0:0:80ff:fffe]/ http://[2001::1]/ http://[2606:4700::5efe:7f00:1]/
    http://10.0.0.1/ http://10.1/ http://167772161/ http://0xa000001/ http://172.16.0.1/ http://172.31.255.254/ http://192.168.1.1/
    http://192.168.257/ http://3232235777/ http://169.254.1.1/ http://100.64.0.1/ http://100.127.255.254/ http://224.0.0.1/
    http://239.255.255.250/ http://255.255.255.255/ http://240.0.0.1/ http://198.18.0.1/ http://192.0.2.1/ http://[fc00::1]/ http://[fd12::1]/
    http://[fe80::1]/ http://[fec0::1]/ http://[ff02::1]/ http://[2001:db8::1]/ http://[100::1]/ http://[4000::1]/
    http://169.254.169.254/latest/meta-data/ http://2852039166/ http://0xa9fea9fe/ http://0251.0376.0251.0376/ http://169.254.43518/
    http://[::ffff:169.254.169.254]/ http://[::ffff:a9fe:a9fe]/ http://[64:ff9b::169.254.169.254]/ http://[2002:a9fe:a9fe::]/
    http://[fd00:ec2::254]/ http://[fd20:ce::254]/ http://100.100.100.200/ http://168.63.129.16/ http://169.254.170.2/ http://192.0.0.192/
    http://１２７.０.０.１/ http://127。0。0。1/ http://①②⑦.⓪.⓪.①/ https://127.0.0.1:443/ HTTP://127.0.0.1/ http://127.0.0.1:22/
    ws://127.0.0.1/
""")


@pytest.mark.parametrize("url", INTERNAL)
async def test_no_spelling_of_an_internal_address_passes(url: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        await GUARD.check(url, schemes=("http", "https", "ws"))
    assert (caught.value.status, caught.value.code) == (422, "endpoint_not_allowed")
    assert "ALLOWED_NETWORKS" in caught.value.message


MALFORMED = [
    "",
    "/",
    "example.org",
    "//example.org/",
    "http:/example.org",
    "http:example.org",
    "http://",
    "http:///path",
    "http://:80/",
    "http://user@example.org/",
    "http://user:pass@example.org/",
    "http://@example.org/",
    "http://:@example.org/",
    "http://8.8.8.8@127.0.0.1/",
    "http://127.0.0.1@8.8.8.8/",
    "http://8.8.8.8%40127.0.0.1/",
    "http://8.8.8.8\\@127.0.0.1/",
    "http:\\\\8.8.8.8/",
    "http://8.8.8.8\t/",
    "http://8.8.8.8/\r\nHost: x",
    "http://8.8.8.8 /",
    " http://8.8.8.8/",
    "http://8.8.8.8/\0",
    "http://8.8.8.8\u2028/",
    "http://exam ple.org/",
    "http://%31%32%37.0.0.1/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.x]/",
    "http://[::ffff:999.0.0.1]/",
    "http://1.2.3.4.5/",
    "http://256.0.0.1/",
    "http://08.8.8.8/",
    "http://example.0x7f/",
    "http://example.1/",
    "http://-example.org/",
    "http://exam$ple.org/",
    "http://" + "a" * 300 + ".org/",
    "http://8.8.8.8:0/",
    "http://8.8.8.8:65536/",
    "http://8.8.8.8:-1/",
    "http://8.8.8.8:80:80/",
    "http://8.8.8.8:８０a/",
    "http://8.8.8.8/" + "x" * 2100,
    "ftp://8.8.8.8/",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "gopher://8.8.8.8/",
    "unix:///var/run/docker.sock",
    "data:text/plain,x",
    "javascript:alert(1)",
    "git://8.8.8.8/x",
    "ssh://8.8.8.8/x",
    "ext::sh -c id",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
]


@pytest.mark.parametrize("url", MALFORMED, ids=lambda u: ascii(u)[:40])
async def test_what_is_not_a_plain_url_is_refused_unresolved(url: str, names: dict[str, list[list[str]]]) -> None:
    with pytest.raises(EgressRefused):
        await GUARD.check(url)


async def test_user_information_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(EgressRefused) as caught:
        await GUARD.check("https://user:hunter2@example.org/")
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://8.8.8.8/mcp?a=1#x", ("https://8.8.8.8/mcp?a=1", "8.8.8.8", 443)),
        ("http://8.8.8.8:8080", ("http://8.8.8.8:8080", "8.8.8.8", 8080)),
        ("http://134744072/a%2Fb", ("http://8.8.8.8/a%2Fb", "8.8.8.8", 80)),
        ("HTTP://0x8.8.2056/", ("http://8.8.8.8/", "8.8.8.8", 80)),
        ("https://[2606:4700::1111]:22/", ("https://[2606:4700::1111]:22/", "2606:4700::1111", 22)),
        ("https://[2606:4700:0::1111]/", ("https://[2606:4700::1111]/", "2606:4700::1111", 443)),
    ],
)
async def test_a_public_address_passes_in_its_canonical_spelling(url: str, target: tuple[str, str, int]) -> None:
    checked = await GUARD.check(url)
    assert (checked.url, checked.host, checked.port) == target
    assert checked.addresses == (ip_address(target[1]),)


async def test_a_name_is_resolved_once_and_every_address_returned(names: dict[str, list[list[str]]]) -> None:
    names["api.example.org"] = [[PUBLIC, "2606:4700::1", PUBLIC], ["127.0.0.1"]]
    checked = await GUARD.check("https://API.example.org/mcp")
    assert checked == CheckedTarget(
        "https://api.example.org/mcp",
        "api.example.org",
        443,
        (IPv4Address(PUBLIC), IPv6Address("2606:4700::1")),
    )


async def test_an_international_name_is_resolved_in_its_ascii_form(names: dict[str, list[list[str]]]) -> None:
    names["xn--bcher-kva.example"] = [[PUBLIC]]
    assert (await GUARD.check("https://bücher.example/")).host == "xn--bcher-kva.example"


@pytest.mark.parametrize("hidden", ["10.0.0.1", "::1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fe80::1%1"])
async def test_one_internal_address_among_public_ones_refuses_the_name(names: dict[str, list[list[str]]], hidden: str) -> None:
    names["mixed.example.org"] = [[PUBLIC, hidden]]
    with pytest.raises(EgressRefused, match=r"mixed\.example\.org"):
        await GUARD.check("https://mixed.example.org/")


async def test_a_name_that_does_not_resolve_says_so(names: dict[str, list[list[str]]]) -> None:
    for name in ("nowhere.example", "a..b", "a" * 64 + ".example"):
        with pytest.raises(HostNotFound, match=name[:40]):
            await GUARD.check(f"https://{name}/")


async def test_a_name_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralink.core.egress.RESOLVE_TIMEOUT", 0.01)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lambda *a, **k: asyncio.Event().wait())
    with pytest.raises(HostNotFound):
        await GUARD.check("https://slow.example/")


async def test_localhost_by_name_is_loopback() -> None:
    with pytest.raises(EgressRefused, match=r"localhost .*loopback"):
        await GUARD.check("http://localhost:8001/")


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://[64:ff9b::10.1.2.3]/", "http://0xa010203/"]
)
async def test_the_operator_can_allow_a_network_in_all_its_forms(url: str) -> None:
    assert await allowing("10.0.0.0/8").check(url)
    with pytest.raises(EgressRefused):
        await allowing("10.2.0.0/16", "fd00::/8").check(url)


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/"])
async def test_metadata_is_allowed_only_when_listed_alone(url: str) -> None:
    for wide in (["169.254.0.0/16"], ["0.0.0.0/0", "::/0"], ["169.254.169.254/31"]):
        with pytest.raises(EgressRefused, match="metadata"):
            await allowing(*wide).check(url)
    assert await allowing("169.254.169.254/32").check(url)
    with pytest.raises(EgressRefused):
        await allowing("fd00::/8").check("http://[fd00:ec2::254]/")
    assert await allowing("fd00:ec2::254/128").check("http://[fd00:ec2::254]/")


async def test_an_allowed_tunnel_does_not_smuggle_what_is_inside() -> None:
    with pytest.raises(EgressRefused):
        await allowing("2002::/16").check("http://[2002:a00:1::1]/")
    assert await allowing("2002::/16").check("http://[2002:808:808::1]/")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"])
async def test_a_trusted_endpoint_may_be_on_loopback(url: str) -> None:
    assert await GUARD.check(url, trusted=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
    ],
)
async def test_a_trusted_endpoint_may_be_nowhere_else_inside(url: str) -> None:
    with pytest.raises(EgressRefused):
        await GUARD.check(url, trusted=True)


@pytest.mark.parametrize(
    "url",
    ["http://8.8.8.8/o/r", "git://8.8.8.8/o/r", "ssh://git@8.8.8.8/o/r", "git@8.8.8.8:o/r", "/etc", "file:///etc", "ext::id"],
)
async def test_a_repository_is_cloned_over_https_only(url: str) -> None:
    with pytest.raises(EgressRefused):
        await GUARD.check_git_url(url)


async def test_a_repository_over_https_passes() -> None:
    assert (await GUARD.check_git_url("https://8.8.8.8/o/r.git")).port == 443


@patient
@given(
    st.text(max_size=40),
    st.sampled_from(["http://{}", "https://{}/", "{}", "http://[{}]/", "http://8.8.8.8{}", "http://127.0.0.1{}"]),
)
async def test_any_text_gives_a_public_target_or_a_clean_refusal(text: str, form: str) -> None:
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo
    loop.getaddrinfo = lambda host, port, **o: real(host, port, **o | {"flags": socket.AI_NUMERICHOST})  # type: ignore[method-assign]
    with suppress(EgressRefused, HostNotFound):
        target = await GUARD.check(form.format(text))
        assert target.addresses
        assert all(address.is_global for address in target.addresses)


class Service:
    """A server on loopback that counts who reaches it and answers as the test says."""

    def __init__(self) -> None:
        self.reached = 0
        self.headers: dict[str, str] = {}
        self.status = 200
        self.port = 0

    async def answer(self, _request: web.Request) -> web.Response:
        self.reached += 1
        status, self.status = self.status, 200
        return web.Response(status=status, headers=self.headers, text="inside")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_get("/{tail:.*}", service.answer)
    async with TestServer(app) as server:
        assert server.port is not None
        service.port = server.port
        yield service


async def test_a_trusted_session_reaches_loopback_by_name_and_by_address(
    service: Service, names: dict[str, list[list[str]]]
) -> None:
    names["tool.example"] = [["127.0.0.1"]]
    async with GUARD.session(trusted=True) as session:
        for host in ("127.0.0.1", "tool.example"):
            async with session.get(f"http://{host}:{service.port}/") as response:
                assert await response.text() == "inside"


async def test_a_name_that_was_public_when_checked_and_internal_when_connected_is_refused(
    service: Service, names: dict[str, list[list[str]]]
) -> None:
    names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    target = await GUARD.check(f"http://rebind.example:{service.port}/")
    async with GUARD.session() as session:
        with pytest.raises(EgressRefused, match=r"rebind\.example"):
            await session.get(target.url)
    assert service.reached == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0x7f.1", "localhost", "0.0.0.0", "[::]", "[fe80::1%25lo]"]
)
async def test_an_address_that_aiohttp_would_not_resolve_is_refused_at_the_socket(service: Service, host: str) -> None:
    async with GUARD.session() as session:
        with pytest.raises(EgressRefused):
            await session.get(f"http://{host}:{service.port}/")
    assert service.reached == 0


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1"])
async def test_an_odd_spelling_never_reaches_a_socket(service: Service, host: str) -> None:
    async with GUARD.session() as session:
        with pytest.raises((EgressRefused, aiohttp.InvalidURL)):
            await session.get(f"http://{host}:{service.port}/")
    assert service.reached == 0


async def test_a_plain_aiohttp_session_on_the_connector_is_guarded_too(service: Service) -> None:
    async with aiohttp.ClientSession(connector=GUARD.connector()) as session:
        with pytest.raises(EgressRefused):
            await session.get(f"http://127.0.0.1:{service.port}/")
        with pytest.raises(EgressRefused):
            await session.get("http://8.8.8.8/", proxy=f"http://127.0.0.1:{service.port}/")


@pytest.mark.parametrize("header", ["Location", "URI"])
@pytest.mark.parametrize("location", ["/again", "http://169.254.169.254/", "//127.0.0.1/", "http://["])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_by_default(service: Service, status: int, location: str, header: str) -> None:
    service.status, service.headers = status, {header: location}
    async with GUARD.session(trusted=True) as session:
        with pytest.raises(EgressRefused, match="redirects"):
            await session.get(f"http://127.0.0.1:{service.port}/", allow_redirects=True)
    assert service.reached == 1


@pytest.mark.parametrize("location", ["http://169.254.169.254/", "//10.0.0.1/", "http://a:b@8.8.8.8/", "file:///etc/passwd"])
async def test_a_followed_redirect_is_checked_first(service: Service, location: str) -> None:
    service.status, service.headers = 302, {"Location": location}
    async with GUARD.session(trusted=True, follow_redirects=True) as session:
        with pytest.raises(EgressRefused):
            await session.get(f"http://127.0.0.1:{service.port}/")


async def test_a_followed_redirect_that_is_allowed_arrives(service: Service) -> None:
    service.status, service.headers = 302, {"Location": "/there"}
    async with GUARD.session(trusted=True, follow_redirects=True) as session:
        async with session.get(f"http://127.0.0.1:{service.port}/") as response:
            assert (response.status, response.url.path) == (200, "/there")


async def test_a_session_takes_no_proxy_from_the_environment_and_keeps_no_cookie(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://10.0.0.1:3128")
    service.headers = {"Set-Cookie": "a=b"}
    async with GUARD.session(trusted=True) as session:
        await session.get(f"http://127.0.0.1:{service.port}/")
        assert len(session.cookie_jar) == 0
    assert service.reached == 1


async def test_the_resolver_answers_in_the_family_asked_for(names: dict[str, list[list[str]]]) -> None:
    names["dual.example"] = [[PUBLIC, "2606:4700::1"]]
    resolver = PinnedResolver(GUARD)
    assert [r["host"] for r in await resolver.resolve("dual.example", 443)] == [PUBLIC, "2606:4700::1"]
    assert [r["host"] for r in await resolver.resolve("dual.example", 443, socket.AF_INET6)] == ["2606:4700::1"]
    names["four.example"] = [[PUBLIC]]
    with pytest.raises(OSError, match=r"four\.example"):
        await resolver.resolve("four.example", 443, socket.AF_INET6)


async def test_a_name_that_does_not_resolve_is_aiohttps_own_error(names: dict[str, list[list[str]]]) -> None:
    async with GUARD.session() as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await session.get("http://nowhere.example/")


DSN = "postgresql://ann:pw@8.8.8.8:5433/shop"


@pytest.mark.parametrize(
    "dsn",
    [DSN, "postgres://ann:pw@8.8.8.8:5433/shop", "host=8.8.8.8 port=5433 user=ann password=pw dbname=shop"],
)
async def test_a_dsn_is_pinned_and_takes_nothing_from_this_machine(dsn: str) -> None:
    info = await GUARD.check_dsn(Secret(dsn))
    assert (info["host"], info["hostaddr"], info["port"], info["dbname"]) == ("8.8.8.8", "8.8.8.8", "5433", "shop")
    assert (info["user"], info["password"]) == ("ann", "pw")
    assert (info["options"], info["gssencmode"], info["sslcertmode"]) == ("", "disable", "disable")
    assert make_conninfo(**info)


async def test_a_dsn_by_name_connects_to_the_address_that_was_checked(names: dict[str, list[list[str]]]) -> None:
    names["db.example"] = [[PUBLIC], ["127.0.0.1"]]
    info = await GUARD.check_dsn(Secret("postgresql://ann:pw@db.example"))
    assert (info["host"], info["hostaddr"], info["port"], info["dbname"]) == ("db.example", PUBLIC, "5432", "ann")


async def test_an_odd_spelling_of_an_address_reaches_libpq_canonical() -> None:
    info = await GUARD.check_dsn(Secret("postgresql://ann:pw@134744072/shop"))
    assert (info["host"], info["hostaddr"]) == ("8.8.8.8", "8.8.8.8")


async def test_a_verified_connection_names_the_authorities_to_verify_by() -> None:
    info = await GUARD.check_dsn(Secret(f"{DSN}?sslmode=verify-full&application_name=x&connect_timeout=3"))
    assert info["sslrootcert"]
    assert (info["application_name"], info["connect_timeout"]) == ("x", "3")


BAD_DSNS = words("""
    postgresql:///shop postgresql://ann:pw@/shop postgresql://%2Ftmp/shop?user=a&password=b postgresql://ann:pw@%2Fvar%2Frun/shop
    postgresql://ann:pw@%40abstract/shop postgresql://ann:pw@/shop?host=/tmp postgresql://ann:pw@8.8.8.8,10.0.0.1/shop
    postgresql://ann:pw@8.8.8.8:5432,8.8.4.4:5432/shop postgresql://ann:pw@8.8.8.8/shop?port=1,2 postgresql://ann:pw@8.8.8.8:0/shop
    postgresql://ann:pw@8.8.8.8:65536/shop postgresql://ann:pw@8.8.8.8:5x/shop postgresql://ann:pw@8.8.8.8/shop?hostaddr=10.0.0.1
    postgresql://ann:pw@8.8.8.8/shop?host=10.0.0.1 postgresql://ann:pw@8.8.8.8/shop?service=x postgresql://ann:pw@8.8.8.8/shop?servicefile=/x
    postgresql://ann:pw@8.8.8.8/shop?passfile=/etc/passwd postgresql://ann:pw@8.8.8.8/shop?options=-c%20x=y
    postgresql://ann:pw@8.8.8.8/shop?sslkey=/etc/key postgresql://ann:pw@8.8.8.8/shop?sslcert=/x postgresql://ann:pw@8.8.8.8/shop?sslrootcert=/x
    postgresql://ann:pw@8.8.8.8/shop?krbsrvname=x postgresql://ann:pw@8.8.8.8/shop?target_session_attrs=any
    postgresql://ann:pw@8.8.8.8/shop?sslkeylogfile=/tmp/x postgresql://ann:pw@8.8.8.8/shop?oauth_issuer=http://10.0.0.1
    postgresql://ann:pw@8.8.8.8/shop?replication=true postgresql://ann:pw@8.8.8.8/shop?client_encoding=x postgresql://ann:pw@8.8.8.8/shop?sslmode=odd
    postgresql://ann:pw@8.8.8.8/shop?connect_timeout=-1 postgresql://ann:pw@8.8.8.8/shop?connect_timeout=9999
    postgresql://ann:pw@8.8.8.8/host%3D10.0.0.1 postgresql://ann:pw@8.8.8.8/postgresql%3A%2F%2F10.0.0.1 postgresql://ann@8.8.8.8/shop
    postgresql://:pw@8.8.8.8/shop postgresql://8.8.8.8/shop postgresql://ann:pw@127.0.0.1/shop postgresql://ann:pw@[::1]/shop
    postgresql://ann:pw@2130706433/shop postgresql://ann:pw@localhost/shop postgresql://ann:pw@[::ffff:10.0.0.1]/shop
    postgresql://ann:pw@169.254.169.254/shop postgresql://ann:pw@[fe80::1%25eth0]/shop postgresql://ann:pw@ho%20st/shop mysql://ann:pw@8.8.8.8/shop
    http://8.8.8.8/ garbage postgresql://[ postgresql://ann:pw@8.8.8.8/sh%00op postgresql://ann:pw@8.8.8.8/%zz
""")


@pytest.mark.parametrize(
    "dsn", [*BAD_DSNS, "", "host=/tmp user=a password=b", "host=8.8.8.8 host=10.0.0.1 user=a password=b", "\0", "\ud800"]
)
async def test_a_dsn_that_could_lead_elsewhere_is_refused(dsn: str) -> None:
    with pytest.raises(EgressRefused):
        await GUARD.check_dsn(Secret(dsn))


@pytest.mark.promise("P-SECRET")
@pytest.mark.parametrize(
    "dsn",
    ["postgresql://ann:CANARY@127.0.0.1/x", "postgresql://ann:CANARY", "password=CANARY' host='", "password='CANARY", "CANARY=1"],
)
async def test_a_refused_dsn_does_not_show_its_password(dsn: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        await GUARD.check_dsn(Secret(dsn.replace("CANARY=1", "password=CANARY options=CANARY host=1.1.1.1 user=a")))
    assert "CANARY" not in caught.value.message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_libpq_dials_the_pinned_address_and_no_other(unused_tcp_port: int) -> None:
    """A real listener stands at the pinned address; the name itself could not be resolved."""
    dialled = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", unused_tcp_port):
        info = await GUARD.check_dsn(Secret(f"postgresql://ann:pw@127.0.0.1:{unused_tcp_port}/x"), trusted=True)
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(**info | {"host": "nowhere.invalid"})
        assert dialled.is_set()

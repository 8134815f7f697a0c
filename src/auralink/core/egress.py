"""The SSRF guard: where the service may connect when a user names the address.

Used for every endpoint, clone URL, key base URL and DSN that a user gives. `EgressGuard.check` judges an address when it is
registered and tells the user what is wrong with it; `EgressGuard.connector` judges again at the moment of connecting, at the
socket itself, so that a name that resolves elsewhere meanwhile (DNS rebinding), a literal address (which aiohttp never
resolves) and a redirect all meet the same rule. Addresses that the operator sets (JWKS, `DATABASE_URL`) do not pass here.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Any

from aiohttp import (
    AddrInfoType,
    ClientHandlerType,
    ClientMiddlewareType,
    ClientRequest,
    ClientResponse,
    ClientSession,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from yarl import URL

from auralink.core.addresses import Address, Kind, Network, forms_of, kind_of
from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret

RESOLVE_TIMEOUT = 5.0
"""Seconds a name may take to resolve."""
MAX_URL = 2048

_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.ASCII | re.IGNORECASE)
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_.])?", re.ASCII | re.IGNORECASE)
_NUMERIC = re.compile(r"([0-9]+|0x[0-9a-f]*)", re.ASCII | re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_DSN_PARAMETERS = frozenset({"host", "port", "dbname", "user", "password", "sslmode", "application_name", "connect_timeout"})
_ROOT_CERTIFICATES = ssl.get_default_verify_paths().cafile or "system"
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-full"})


class EgressRefused(AuralinkError):
    """The address is not one that this service connects to on a user's behalf."""

    code = "endpoint_not_allowed"
    status = 422
    title = "Endpoint not allowed"


class HostNotFound(AuralinkError):
    """The host's name does not resolve."""

    code = "endpoint_unresolvable"
    status = 502
    title = "Host not found"


@dataclass(frozen=True, slots=True)
class CheckedTarget:
    """An address that may be connected to. `url` is canonical: connect to it, not to the text that was checked."""

    url: str
    host: str
    port: int
    addresses: tuple[Address, ...]


class EgressGuard:
    """Decides by address, never by name. `allowed_networks` is the operator's `ALLOWED_NETWORKS`."""

    def __init__(self, allowed_networks: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed_networks)

    def admit(self, host: str, address: Address, *, trusted: bool = False) -> None:
        """Lets `address` (to which `host` resolved) pass, or refuses it. `trusted` admits loopback, never metadata.

        Raises:
            EgressRefused: names the host, what kind of address it is and the setting that would allow it.
        """
        refused = [form for form in forms_of(address) if not self._admits(form, trusted=trusted)]
        if not refused:
            return
        kind = kind_of(refused[-1])
        shown = str(address) if str(address) == host else f"{host} ({address})"
        remedy = f"list {address}/{address.max_prefixlen}" if kind is Kind.METADATA else "list its network"
        raise EgressRefused(
            f"{shown} is not a public address ({kind}), so an endpoint given by a user may not be there; "
            f"the operator can {remedy} in ALLOWED_NETWORKS"
        )

    def _admits(self, address: Address, *, trusted: bool) -> bool:
        kind = kind_of(address)
        if kind is Kind.METADATA:
            return any(n.num_addresses == 1 and address in n for n in self._allowed)
        return kind is Kind.PUBLIC or (trusted and kind is Kind.LOOPBACK) or any(address in n for n in self._allowed)

    async def check(self, url: str, *, schemes: Collection[str] = ("https", "http"), trusted: bool = False) -> CheckedTarget:
        """Resolves the host of `url` once and admits every address it has.

        Raises:
            EgressRefused: not an absolute URL of one of `schemes`, user information in it, or a forbidden address.
            HostNotFound: the name does not resolve.
        """
        parsed = _parse_url(url, schemes)
        host, port = parsed.raw_host or "", parsed.port or 0
        addresses = await self.resolve(host, port, trusted=trusted)
        return CheckedTarget(str(parsed), host, port, addresses)

    async def check_git_url(self, url: str) -> CheckedTarget:
        """`check` for a repository to clone: https only, no other transport of git."""
        return await self.check(url, schemes=("https",))

    async def check_dsn(self, dsn: Secret, *, trusted: bool = False) -> dict[str, str]:
        """Checks a Postgres DSN (URI or key-value form) and pins it.

        Returns keyword arguments for `psycopg.connect`, with `hostaddr` set to a checked address, and with everything that
        libpq would otherwise take from this service's own environment or home directory switched off. They contain the
        password in clear: make them where they are used, and drop them.

        Raises:
            EgressRefused: a parameter outside the short list, a socket, several hosts, no user or password, or a
                forbidden address. The message never contains the DSN.
            HostNotFound: the name does not resolve.
        """
        given = _parse_dsn(dsn)
        host, port = _canonical_host(given["host"]), _dsn_port(given)
        addresses = await self.resolve(host, port, trusted=trusted)
        return {
            "application_name": "auralink",
            "connect_timeout": "10",
            "sslmode": "prefer",
            "dbname": given["user"],
            **given,
            "host": host,
            "port": str(port),
            "hostaddr": str(addresses[0]),
            "options": "",
            "gssencmode": "disable",
            "sslcertmode": "disable",
        } | ({"sslrootcert": _ROOT_CERTIFICATES} if given.get("sslmode") == "verify-full" else {})

    async def resolve(self, host: str, port: int, *, trusted: bool = False) -> tuple[Address, ...]:
        """The addresses of `host`, all admitted; one forbidden address among them refuses the host.

        Raises:
            EgressRefused, HostNotFound
        """
        literal = _literal(host)
        addresses = (literal,) if literal else await _look_up(host, port)
        for address in addresses:
            self.admit(host, address, trusted=trusted)
        return addresses

    def connector(self, *, trusted: bool = False, **options: Any) -> TCPConnector:
        """An aiohttp connector whose every socket is admitted first. `options` are those of `TCPConnector`.

        A connector pools by host name: never share one between trusted and other endpoints.
        """
        return TCPConnector(
            resolver=PinnedResolver(self, trusted=trusted),
            socket_factory=self._socket_factory(trusted=trusted),
            **options,
        )

    def session(self, *, trusted: bool = False, follow_redirects: bool = False, **options: Any) -> ClientSession:
        """A session over `connector()` that keeps no cookies and takes no proxy from the environment.

        A redirect is refused, whatever the request asks for, unless `follow_redirects`; then each hop is checked.
        """
        return ClientSession(
            connector=self.connector(trusted=trusted),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            middlewares=(self._redirect_rule(trusted=trusted, follow=follow_redirects),),
            **options,
        )

    def _socket_factory(self, *, trusted: bool) -> Callable[[AddrInfoType], socket.socket]:
        def create(info: AddrInfoType) -> socket.socket:
            family, kind, protocol, _, endpoint = info
            host = str(endpoint[0])
            address = _literal(host)
            if address is None:
                raise EgressRefused(f"{host!r} is not an IP address")
            self.admit(host, address, trusted=trusted)
            return socket.socket(family, kind, protocol)

        return create

    def _redirect_rule(self, *, trusted: bool, follow: bool) -> ClientMiddlewareType:
        async def rule(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            response = await handler(request)
            location = response.headers.get("Location") or response.headers.get("URI")
            if response.status not in _REDIRECTS or location is None:
                return response
            try:
                await self._follow(request.url, location, trusted=trusted, follow=follow)
            except AuralinkError:
                response.close()
                raise
            return response

        return rule

    async def _follow(self, origin: URL, location: str, *, trusted: bool, follow: bool) -> None:
        try:
            target = origin.join(URL(location))
        except ValueError:
            raise EgressRefused(f"{origin.host} redirects to an address that is not a URL") from None
        if not follow:
            raise EgressRefused(f"{origin.host} redirects to {target.host}; register the address it leads to instead")
        await self.check(str(target), trusted=trusted)


class PinnedResolver(AbstractResolver):
    """Resolves for aiohttp through the guard, so that only admitted addresses are ever dialled."""

    def __init__(self, guard: EgressGuard, *, trusted: bool = False) -> None:
        self._guard = guard
        self._trusted = trusted

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """The admitted addresses of `host`, numeric. Raises `OSError` if there is none, as aiohttp expects."""
        try:
            addresses = await self._guard.resolve(host, port, trusted=self._trusted)
        except HostNotFound as error:
            raise OSError(error.message) from error
        results = [_resolve_result(host, port, address) for address in addresses]
        matching = [result for result in results if family in {socket.AF_UNSPEC, result["family"]}]
        if not matching:
            raise OSError(f"{host} has no address of family {family!r}")
        return matching

    async def close(self) -> None:
        """Nothing is held."""


def _resolve_result(host: str, port: int, address: Address) -> ResolveResult:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=family,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


def _parse_url(url: str, schemes: Collection[str]) -> URL:
    if len(url) > MAX_URL or _UNPRINTABLE.search(url):
        raise EgressRefused(f"the address is longer than {MAX_URL} characters or contains spaces, controls or backslashes")
    authority = _AUTHORITY.match(url)
    if authority is None:
        raise EgressRefused(f"the address must be an absolute URL ({' or '.join(schemes)})")
    if "@" in authority[1]:
        raise EgressRefused("the address carries user information before the host; give the credential separately")
    try:
        parsed = URL(url).with_fragment(None)
    except ValueError:
        raise EgressRefused("the address is not a valid URL") from None
    if parsed.scheme not in schemes:
        raise EgressRefused(f"{parsed.scheme} is not allowed here; the address must be {' or '.join(schemes)}")
    host = _canonical_host(parsed.raw_host or "")
    if "[" in authority[1] and ":" not in host:
        raise EgressRefused("what stands in brackets is not an IPv6 address")
    if not parsed.port:
        raise EgressRefused(f"{host}: port {parsed.port} cannot be connected to")
    return parsed.with_host(host)


def _canonical_host(host: str) -> str:
    """A host name, or an IP address in its one canonical spelling (`0x7f.1` is `127.0.0.1`)."""
    if literal := _literal(host):
        return str(literal)
    if not _HOST_NAME.fullmatch(host) or _NUMERIC.fullmatch(host.rstrip(".").rsplit(".", 1)[-1]):
        raise EgressRefused(f"{host[:80]!r} is not a host name or an IP address")
    return host


def _literal(host: str) -> Address | None:
    """The address that `host` spells, in any spelling that `inet_aton` takes; None if it is a name."""
    if ":" in host:
        try:
            return IPv6Address(host) if "%" not in host else None
        except AddressValueError:
            return None
    bare = host.removesuffix(".")
    if not all(_NUMERIC.fullmatch(part) for part in bare.split(".")):
        return None
    try:
        return IPv4Address(socket.inet_aton(bare))
    except OSError:
        return None


async def _look_up(host: str, port: int) -> tuple[Address, ...]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError):
        raise HostNotFound(
            f"the name of the host {host[:80]} could not be resolved from here; check the name, and this machine's network"
        ) from None
    return tuple(dict.fromkeys(ip_address(info[4][0]) for info in found))


def _parse_dsn(dsn: Secret) -> dict[str, str]:
    text = dsn.reveal()
    if "\0" in text:
        raise EgressRefused("the DSN contains a NUL character")
    try:
        given = {key: str(value) for key, value in conninfo_to_dict(text).items()}
    except (ProgrammingError, UnicodeError):
        raise EgressRefused("the DSN is not a valid Postgres connection string") from None
    if unknown := sorted(given.keys() - _DSN_PARAMETERS):
        allowed = ", ".join(sorted(_DSN_PARAMETERS))
        raise EgressRefused(f"the DSN sets {', '.join(unknown)}; it may only set {allowed}")
    for needed in ("host", "user", "password"):
        if not given.get(needed):
            raise EgressRefused(f"the DSN names no {needed}, and this service lends none of its own")
    _check_dsn_values(given)
    return given


def _check_dsn_values(given: dict[str, str]) -> None:
    host = given["host"]
    if host.startswith(("/", "@", "\\")):
        raise EgressRefused("the DSN's host is a socket; it must be a host name or an IP address")
    if "," in host or "," in given.get("port", ""):
        raise EgressRefused("the DSN names several hosts; it must name one")
    if any(mark in given.get("dbname", "") for mark in ("=", "://")):
        raise EgressRefused("the DSN's database name is a connection string itself")
    if given.get("sslmode", "prefer") not in _SSL_MODES:
        raise EgressRefused(f"the DSN's sslmode must be one of {', '.join(sorted(_SSL_MODES))}")
    if not re.fullmatch(r"[0-9]{1,3}", given.get("connect_timeout", "10"), re.ASCII):
        raise EgressRefused("the DSN's connect_timeout must be a number of seconds below 1000")


def _dsn_port(given: dict[str, str]) -> int:
    port = given.get("port") or "5432"
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise EgressRefused("the DSN's port must be between 1 and 65535")
    return int(port)

"""A request as bytes: where a URL leads, and the head that is sent there."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

from auralink.core.http_client.errors import HttpInvalidRequest

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_ALWAYS = "Accept-Encoding: identity\r\n"
SCHEMES = ("http", "https")


class Origin(NamedTuple):
    """Whom a connection is with."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Target(NamedTuple):
    """Where a URL leads: the origin, and what the request line and the Host header say."""

    origin: Origin
    path: str
    host_header: str


@lru_cache(maxsize=1024)
def target_of(url: str) -> Target:
    """Raises `HttpInvalidRequest` unless `url` is an absolute http(s) URL."""
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        host = port = None
    if host is None or not port or parsed.scheme not in SCHEMES:
        raise HttpInvalidRequest("the address is not an absolute http(s) URL", sent=False)
    authority = f"[{host}]" if ":" in host else host
    if not parsed.is_default_port():
        authority = f"{authority}:{port}"
    return Target(Origin(host, port, parsed.scheme == "https"), parsed.raw_path_qs, authority)


def bytes_of(method: str, target: Target, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request as it is sent, framed by the length of `body`.

    Raises:
        HttpInvalidRequest: a header's name or value cannot be sent. The message holds no value: it may be a secret.
    """
    lines = [f"{method} {target.path} HTTP/1.1\r\nHost: {target.host_header}\r\n{_ALWAYS}"]
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _UNSENDABLE.search(value):
            raise HttpInvalidRequest(f"the header {name[:80]!r} holds a character that HTTP cannot carry", sent=False)
        lines.append(f"{name}: {value}\r\n")
    if body is None:
        return "".join([*lines, "\r\n"]).encode("latin-1")
    return "".join([*lines, f"Content-Length: {len(body)}\r\n\r\n"]).encode("latin-1") + body

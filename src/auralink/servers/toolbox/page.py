"""Fetches a page that a model names: through the SSRF guard, a bounded number of bytes in a bounded time, as readable text.

The bytes are only decoded here; HTML is parsed in a bounded child process (`reader.py`).
"""

import asyncio
import codecs
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientTimeout, InvalidURL, TooManyRedirects

from auralink import __version__
from auralink.core.egress import EgressGuard
from auralink.servers.toolbox.children import Child
from auralink.servers.toolbox.errors import ChildFailed, ChildRefused, PageUnavailable
from auralink.servers.toolbox.schemas import Page, PageLink

MAX_REDIRECTS = 5
MAX_BODY_BYTES = 3 * 1024 * 1024
"""Bytes of a page that are read, after decompression; the rest is left on the wire and the answer says `truncated`."""
TIMEOUT = 20.0
"""Seconds for the whole exchange, redirects and body included."""

HEADERS = {
    "User-Agent": f"AuraLink/{__version__} (fetch_page tool; on behalf of a user)",
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9,text/markdown;q=0.9,application/json;q=0.8,*/*;q=0.1",
    "Accept-Encoding": "gzip, deflate",
}
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_PLAIN = re.compile(r"text/[a-z0-9.+-]+|application/([a-z0-9.-]+\+)?(json|xml|yaml|x-yaml|javascript|x-ndjson)", re.ASCII)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)


@dataclass(frozen=True)
class _Document:
    url: str
    status: int
    content_type: str
    text: str
    truncated: bool


class PageFetcher:
    """Fetches pages through a guard.

    Args:
        guard: judges the address, every redirect and every socket.
        timeout: seconds for one exchange, redirects and body included.
    """

    def __init__(self, guard: EgressGuard, *, timeout: float = TIMEOUT) -> None:
        self._guard = guard
        self._timeout = timeout
        self._reader = Child("auralink.servers.toolbox.reader", what="Reading the page", seconds=15)

    async def fetch(self, url: str, *, start: int = 0, max_characters: int = 20_000) -> Page:
        """The readable text of the page at `url`, from character `start` on.

        Raises:
            EgressRefused: `url`, or a redirect on the way, leads where users may not reach.
            HostNotFound: the host of `url` does not resolve.
            PageUnavailable: not reachable, an error status, not text, or too slow; the message says what to try.
        """
        document = await _download(self._guard, url, self._timeout)
        page = await _read(self._reader, document)
        text = str(page["text"])
        end = start + max_characters
        return Page(
            url=document.url,
            status=document.status,
            content_type=document.content_type,
            title=page["title"],
            description=page["description"],
            text=text[start:end],
            links=[PageLink.model_validate(link) for link in page["links"]] if start == 0 else [],
            total_characters=len(text),
            next_start=end if end < len(text) else None,
            truncated=document.truncated,
        )


async def _download(guard: EgressGuard, url: str, timeout: float) -> _Document:
    target = await guard.check(url)
    try:
        # aiohttp raises at the last redirect it counts, hence one more than are followed. A session for each page: no cookie,
        # connection or redirect rule is shared between the users of the service.
        async with (
            guard.session(follow_redirects=True, headers=HEADERS, timeout=ClientTimeout(total=timeout)) as session,
            session.get(target.url, max_redirects=MAX_REDIRECTS + 1) as response,
        ):
            return await _document(response)
    except TooManyRedirects:
        raise PageUnavailable(
            f"{target.host} redirects more than {MAX_REDIRECTS} times. Try the address it should end at."
        ) from None
    except TimeoutError:
        raise PageUnavailable(f"{target.host} did not answer within {timeout:g} s. Try again later or another source.") from None
    except InvalidURL:
        raise PageUnavailable(f"{target.host} redirects to something that is not a URL. Try another source.") from None
    except (ClientError, OSError) as error:
        raise PageUnavailable(
            f"{target.host} could not be reached ({type(error).__name__}). Check the address; if every address fails, this "
            "server has no network."
        ) from None


async def _document(response: ClientResponse) -> _Document:
    content_type = response.content_type.lower()
    if response.status >= 400:
        raise PageUnavailable(
            f"{response.url.host} answered {response.status} {response.reason or ''}. {_advice(response.status)}"
        )
    if content_type not in _HTML and not _PLAIN.fullmatch(content_type):
        raise PageUnavailable(f"{response.url} is {content_type}, not text. Look for an HTML or text version of it.")
    body, truncated = await _body(response)
    text = await asyncio.to_thread(_decode, body, response.charset)
    return _Document(str(response.url), response.status, content_type, text, truncated)


def _advice(status: int) -> str:
    if status in {401, 403}:
        return "It wants a sign-in or refuses programs; use another source."
    if status in {404, 410}:
        return "The page does not exist; search for its present address."
    return "Try again later or another source." if status in {429} or status >= 500 else "Check the address."


async def _body(response: ClientResponse) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(65_536):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return b"".join(chunks)[:MAX_BODY_BYTES], True
    return b"".join(chunks), False


def _decode(body: bytes, charset: str | None) -> str:
    """Text from the charset of the header, else a byte order mark, else `<meta charset>`, else UTF-8."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if body.startswith(mark):
            return body.decode(name, "replace")
    declared = charset or (match[1].decode("ascii") if (match := _META_CHARSET.search(body[:2048])) else "utf-8")
    try:
        return body.decode(declared, "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


async def _read(reader: Child, document: _Document) -> dict[str, Any]:
    if document.content_type not in _HTML:
        return {"title": "", "description": "", "text": document.text, "links": []}
    try:
        return await reader.ask({"html": document.text, "url": document.url})
    except (ChildFailed, ChildRefused) as error:
        raise PageUnavailable(f"The page at {document.url} cannot be read: {error.message}. Try another source.") from None

"""Web search through one engine, chosen by the configuration: a SearXNG instance, the Brave Search API, or `ddgs` without a key.

There is no falling over from one to the next: an engine that fails says so, since the operator chose where queries may go.
SearXNG: https://docs.searxng.org/dev/search_api; Brave: https://api-dashboard.search.brave.com/app/documentation/web-search.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any, Literal

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from yarl import URL

from auralink.core.secret import Secret
from auralink.servers.toolbox.children import Child
from auralink.servers.toolbox.errors import ChildFailed, ChildRefused, SearchUnavailable
from auralink.servers.toolbox.schemas import SearchHit, SearchResults

TIMEOUT = 20.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
BRAVE_URL = "https://api.search.brave.com/res/v1/web/search"

Period = Literal["day", "week", "month", "year"]

_TAG = re.compile(r"<[^<>]{1,200}>")
# The operator's way out to the network.
_PROXY_VARIABLES = tuple(v for n in ("HTTP", "HTTPS", "ALL", "NO") for v in (f"{n}_PROXY", f"{n.lower()}_proxy"))
_WITHOUT = "Answer without the web and say so, or tell the operator."


@dataclass(frozen=True)
class SearchSettings:
    """Which engine answers: SearXNG if an address is given, else Brave if a key is given, else ddgs.

    These addresses are the operator's, so they do not pass the SSRF guard; a user cannot set them.
    """

    searxng_url: str | None = None
    brave_key: Secret | None = None
    brave_url: str = BRAVE_URL


class WebSearch:
    """Searches through the engine of the settings."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        # ddgs and its HTTP client cost 30 MiB once loaded, and a thread that hangs in them could not be stopped: hence a child.
        self._ddgs = Child(
            "auralink.servers.toolbox.metasearch", what="The search", seconds=TIMEOUT, slots=4, passes=_PROXY_VARIABLES
        )

    async def search(self, query: str, *, max_results: int = 8, period: Period | None = None) -> SearchResults:
        """At most `max_results` hits, optionally no older than `period`. No hit is an empty list, not an error.

        Raises:
            SearchUnavailable: no network, or the engine refused or failed; the message says which and what to do.
        """
        settings = self._settings
        if settings.searxng_url:
            engine, hits = "searxng", await _searxng(settings.searxng_url, query, period)
        elif settings.brave_key:
            engine, hits = "brave", await _brave(settings.brave_url, settings.brave_key, query, max_results, period)
        else:
            engine, hits = "ddgs", await _metasearch(self._ddgs, query, max_results, period)
        return SearchResults.model_validate({"query": query, "engine": engine, "results": hits[:max_results]})


async def _searxng(address: str, query: str, period: Period | None) -> list[SearchHit]:
    url = URL(address) / "search" if not address.rstrip("/").endswith("/search") else URL(address)
    parameters = {"q": query, "format": "json"} | ({"time_range": period} if period else {})
    answer = await _get_json("SearXNG", url, parameters, {}, forbidden="add json to search.formats in its settings.yml")
    hits = _hits(answer.get("results"), snippet="content")
    silent = answer.get("unresponsive_engines") or []
    if not hits and silent:
        names = ", ".join(str(e[0]) for e in silent if isinstance(e, list) and e)
        raise SearchUnavailable(f"SearXNG's engines did not answer ({names}). Try again later.")
    return hits


async def _brave(address: str, key: Secret, query: str, count: int, period: Period | None) -> list[SearchHit]:
    freshness = {"day": "pd", "week": "pw", "month": "pm", "year": "py"}
    parameters = {"q": query, "count": str(min(count, 20))} | ({"freshness": freshness[period]} if period else {})
    headers = {"X-Subscription-Token": key.reveal()}
    answer = await _get_json("Brave Search", URL(address), parameters, headers, forbidden="check the search API key")
    web = answer.get("web")
    return _hits(web.get("results") if isinstance(web, dict) else None, snippet="description")


async def _get_json(
    name: str, url: URL, parameters: Mapping[str, str], headers: Mapping[str, str], *, forbidden: str
) -> dict[str, Any]:
    try:
        async with (
            ClientSession(cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=TIMEOUT)) as session,
            session.get(
                url, params=parameters, headers={"Accept": "application/json", **headers}, allow_redirects=False
            ) as response,
        ):
            if response.status != 200:
                raise SearchUnavailable(_refusal(name, response.status, forbidden))
            body = await response.content.read(MAX_ANSWER_BYTES)
            while not response.content.at_eof() and len(body) < MAX_ANSWER_BYTES:
                body += await response.content.read(MAX_ANSWER_BYTES - len(body))
    except TimeoutError:
        raise SearchUnavailable(f"{name} did not answer within {TIMEOUT:g} s. Try again later.") from None
    except (ClientError, OSError) as error:
        raise SearchUnavailable(
            f"{name} at {url.host} could not be reached ({type(error).__name__}): no network, or it is down. {_WITHOUT}"
        ) from None
    return _object(name, body)


def _refusal(name: str, status: int, forbidden: str) -> str:
    if status in {401, 403}:
        return f"{name} refused the request ({status}). The operator can {forbidden}."
    if status == 429:
        return f"{name} limits the rate of requests. Wait a minute, then search again."
    return f"{name} answered {status}. Try again later or tell the operator."


def _object(name: str, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise SearchUnavailable(f"{name} did not answer with a JSON object. The operator can check its address.")
    return answer


async def _metasearch(ddgs: Child, query: str, count: int, period: Period | None) -> list[SearchHit]:
    try:
        answer = await ddgs.ask({"query": query, "max_results": count, "period": period})
    except ChildRefused as refusal:
        raise SearchUnavailable(refusal.message) from None
    except ChildFailed as failure:
        raise SearchUnavailable(f"{failure.message}. Try again later.") from None
    return _hits(answer["results"], snippet="body", url="href")


def _hits(items: object, *, snippet: str, url: str = "url") -> list[SearchHit]:
    """The hits among `items` that have a web address, without markup."""
    rows: Iterable[Any] = items if isinstance(items, list) else ()
    return [
        SearchHit(title=_plain(row.get("title"), 300), url=row[url], snippet=_plain(row.get(snippet), 1000))
        for row in rows
        if isinstance(row, dict) and str(row.get(url, "")).startswith(("http://", "https://"))
    ]


def _plain(text: object, length: int) -> str:
    return unescape(_TAG.sub("", text))[:length].strip() if isinstance(text, str) else ""

"""The bounded child of `web_search` without a configured engine: `python -I -m auralink.servers.toolbox.metasearch`.

In: `{"query", "max_results", "period"}`. Out: `{"results": [{"title", "href", "body"}]}`, gathered by `ddgs`.
"""

from typing import Any

from auralink.servers.toolbox.bounded import limit, serve

if __name__ == "__main__":
    # Before the HTTP client is loaded. Its threads reserve address space that they never touch.
    limit(memory_bytes=3 * 1024 * 1024 * 1024, cpu_seconds=15)

from ddgs import DDGS
from ddgs.exceptions import DDGSException, RatelimitException, TimeoutException

from auralink.servers.toolbox.errors import SearchUnavailable

ENGINE_TIMEOUT = 8
"""Seconds for one engine; a search asks a few of them."""

_NO_NETWORK = ("dns", "resolv", "connect", "network is unreachable", "no route")


def search(request: dict[str, Any]) -> dict[str, Any]:
    """Results of a search; none is an empty list.

    Raises:
        SearchUnavailable: no network, too many requests, or no engine answered.
    """
    limit_to = {"day": "d", "week": "w", "month": "m", "year": "y"}.get(request["period"] or "")
    try:
        results = DDGS(timeout=ENGINE_TIMEOUT).text(request["query"], max_results=request["max_results"], timelimit=limit_to)
    except TimeoutException:
        raise SearchUnavailable("The public search engines did not answer in time. Try again later.") from None
    except RatelimitException:
        raise SearchUnavailable("The public search engines limit this address. Try again in some minutes.") from None
    except DDGSException as error:
        return _none_or_refusal(str(error))
    return {"results": results}


def _none_or_refusal(problem: str) -> dict[str, Any]:
    if "No results found" in problem:
        return {"results": []}
    if any(mark in problem.lower() for mark in _NO_NETWORK):
        raise SearchUnavailable(
            "This server has no network: no public search engine could be reached. Answer without the web and say so; the "
            "operator can connect it or configure a SearXNG address."
        )
    raise SearchUnavailable("The public search engines refused the query. Rephrase it or try again later.")


if __name__ == "__main__":
    serve(search)

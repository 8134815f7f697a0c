"""web_search against servers that speak the wire formats of SearXNG and Brave, and ddgs on a machine that reaches nobody."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from ddgs import DDGS
from ddgs.exceptions import DDGSException, RatelimitException, TimeoutException

from auralink.core.secret import Secret
from auralink.servers.toolbox import metasearch
from auralink.servers.toolbox.errors import SearchUnavailable
from auralink.servers.toolbox.search import SearchSettings, WebSearch

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

SEARXNG_ANSWER = {
    "query": "tides",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://example.org/tides",
            "title": "Tides &amp; <b>currents</b>",
            "content": "Why the sea moves.",
            "engine": "a",
        },
        {"url": "javascript:alert(1)", "title": "bad", "content": ""},
        {"url": "https://example.org/moon", "title": "Moon", "content": None},
        "nonsense",
    ],
    "answers": [],
    "unresponsive_engines": [["b", "timeout"]],
}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


def _json(answer: object, status: int = 200) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer, status=status)

    return handler


async def test_searxng_is_asked_in_its_own_words_and_its_hits_come_back_clean(serve: Serve) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    async def searxng(request: web.Request) -> web.Response:
        asked.append((request.path, dict(request.query)))
        return web.json_response(SEARXNG_ANSWER)

    found = await WebSearch(SearchSettings(searxng_url=await serve(searxng))).search("tides", period="week")
    assert asked == [("/search", {"q": "tides", "format": "json", "time_range": "week"})]
    assert found.engine == "searxng"
    assert [(h.title, h.url, h.snippet) for h in found.results] == [
        ("Tides & currents", "https://example.org/tides", "Why the sea moves."),
        ("Moon", "https://example.org/moon", ""),
    ]


async def test_no_more_hits_come_back_than_were_asked_for(serve: Serve) -> None:
    address = await serve(_json(SEARXNG_ANSWER))
    assert len((await WebSearch(SearchSettings(searxng_url=address)).search("tides", max_results=1)).results) == 1


async def test_finding_nothing_is_an_empty_list(serve: Serve) -> None:
    address = await serve(_json({"results": [], "unresponsive_engines": []}))
    assert (await WebSearch(SearchSettings(searxng_url=address)).search("qqq")).results == []


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (403, {}, r"add json to search\.formats"),
        (429, {}, "Wait a minute"),
        (500, {}, "answered 500"),
        (302, {}, "answered 302"),
        (200, ["not", "an", "object"], "did not answer with a JSON object"),
        (200, {"results": [], "unresponsive_engines": [["b", "timeout"]]}, r"did not answer \(b\)"),
    ],
)
async def test_a_searxng_that_fails_says_how_and_what_to_do(serve: Serve, status: int, answer: object, says: str) -> None:
    address = await serve(_json(answer, status))
    with pytest.raises(SearchUnavailable, match=says):
        await WebSearch(SearchSettings(searxng_url=address)).search("tides")


async def test_a_searxng_that_is_down_is_named_and_the_model_told_to_go_without(unused_tcp_port: int) -> None:
    search = WebSearch(SearchSettings(searxng_url=f"http://127.0.0.1:{unused_tcp_port}"))
    with pytest.raises(SearchUnavailable, match=r"127\.0\.0\.1 could not be reached.*Answer without the web and say so"):
        await search.search("tides")


async def test_brave_gets_the_key_in_its_header(serve: Serve) -> None:
    asked: list[tuple[str | None, dict[str, str]]] = []

    async def brave(request: web.Request) -> web.Response:
        asked.append((request.headers.get("X-Subscription-Token"), dict(request.query)))
        return web.json_response(
            {
                "type": "search",
                "web": {"results": [{"title": "Tides", "url": "https://example.org/", "description": "<strong>Sea</strong>"}]},
            }
        )

    settings = SearchSettings(brave_key=Secret("brave-key"), brave_url=await serve(brave))
    found = await WebSearch(settings).search("tides", max_results=3, period="day")
    assert asked == [("brave-key", {"q": "tides", "count": "3", "freshness": "pd"})]
    assert (found.engine, found.results[0].snippet) == ("brave", "Sea")


@pytest.mark.promise("P-SECRET")
async def test_the_search_key_is_in_no_error_and_in_no_repr(serve: Serve) -> None:
    settings = SearchSettings(brave_key=Secret("brave-key"), brave_url=await serve(_json({}, 401)))
    with pytest.raises(SearchUnavailable) as error:
        await WebSearch(settings).search("tides")
    assert "check the search API key" in error.value.message
    assert "brave-key" not in f"{error.value!r} {error.value.message} {settings!r}"


async def test_without_a_network_the_search_says_so_plainly(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    # A proxy that nobody runs cuts ddgs off wherever this test runs.
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(SearchUnavailable, match=r"no network.*Answer without the web and say so"):
        await WebSearch(SearchSettings()).search("tides")


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (TimeoutException("timed out"), "in time"),
        (RatelimitException("202"), "limit this address"),
        (DDGSException("captcha"), "refused the query"),
    ],
)
def test_what_ddgs_raises_becomes_a_next_step(monkeypatch: pytest.MonkeyPatch, problem: Exception, says: str) -> None:
    def fail(self: object, query: str, **options: object) -> None:
        raise problem

    monkeypatch.setattr("ddgs.ddgs.DDGS.text", fail)
    assert DDGS
    with pytest.raises(SearchUnavailable, match=says):
        metasearch.search({"query": "tides", "max_results": 3, "period": None})


def test_ddgs_finding_nothing_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: object, query: str, **options: object) -> None:
        raise DDGSException("No results found.")

    monkeypatch.setattr("ddgs.ddgs.DDGS.text", nothing)
    assert metasearch.search({"query": "tides", "max_results": 3, "period": "day"}) == {"results": []}

"""fetch_page against real HTTP servers on loopback, which the guard admits only where a test says so."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from auralink.core.egress import EgressGuard, EgressRefused, HostNotFound
from auralink.servers.toolbox.errors import PageUnavailable
from auralink.servers.toolbox.page import MAX_BODY_BYTES, MAX_REDIRECTS, PageFetcher
from auralink.servers.toolbox.reader import read_page

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

ARTICLE = """<!doctype html><html><head><title>The  tides</title><meta name="description" content="Why the sea moves">
<style>p{color:red}</style><script>steal()</script></head><body>
<nav><a href="/home">Home</a></nav><header><h1>Site name</h1></header>
<main><article><header><h1>The tides</h1></header>
<p>The Moon pulls the <b>water</b> of the Earth, and the Sun pulls it too, though less strongly than the Moon does.</p>
<p hidden>secret</p><p style="display: none">invisible</p>
<h2>Spring and neap</h2><ul><li>Spring: at new and full moon</li><li>Neap: at the quarters</li></ul>
<pre>height = a *
  cos(t)</pre>
<table><tr><th>Day</th><th>High</th></tr><tr><td>1</td><td>4.2 <b>m</b></td></tr></table>
<p>See <a href="/moon#phase">the Moon</a>, <a href="mailto:x@example.org">mail</a> and
<a href="javascript:alert(1)">click</a>.<br>Last line.</p>
</article></main><footer>Imprint</footer></body></html>"""


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("GET", "/{path:.*}", handler)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
def fetcher() -> PageFetcher:
    return PageFetcher(EgressGuard([ip_network("127.0.0.0/8")]))


def _html(text: str, **options: object) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html", **options)  # type: ignore[arg-type]

    return answer


async def test_a_page_comes_back_as_its_readable_part(serve: Serve, fetcher: PageFetcher) -> None:
    address = await serve(_html(ARTICLE))
    page = await fetcher.fetch(address)
    assert page.title == "The tides"
    assert page.description == "Why the sea moves"
    assert page.text.startswith("# The tides\n\nThe Moon pulls the water of the Earth")
    assert "## Spring and neap\n\n- Spring: at new and full moon\n- Neap: at the quarters" in page.text
    assert "```\nheight = a *\n  cos(t)\n```" in page.text
    assert "Day | High\n1 | 4.2 m" in page.text
    assert page.text.endswith("See the Moon, mail and click.\nLast line.")
    for left_out in ("Site name", "Home", "Imprint", "secret", "invisible", "steal", "color"):
        assert left_out not in page.text
    assert [(link.url, link.text) for link in page.links] == [(f"{address}moon", "the Moon")]
    assert (page.status, page.content_type, page.truncated, page.next_start) == (200, "text/html", False, None)


async def test_a_page_without_marked_article_is_read_whole(serve: Serve, fetcher: PageFetcher) -> None:
    teaser = "<body><article>Teaser</article><div>" + "<p>The story itself is told out here.</p>" * 20 + "</div></body>"
    page = await fetcher.fetch(await serve(_html(teaser)))
    assert page.text.startswith("Teaser")
    assert page.text.count("The story itself") == 20


async def test_a_long_page_is_read_in_parts_that_join_without_gap(serve: Serve, fetcher: PageFetcher) -> None:
    address = await serve(_html("<body>" + "".join(f"<p>Paragraph number {n}</p>" for n in range(200)) + "</body>"))
    whole = await fetcher.fetch(address, max_characters=100_000)
    parts, start = [], 0
    while start is not None:
        part = await fetcher.fetch(address, start=start, max_characters=1_500)
        parts.append(part.text)
        assert part.total_characters == whole.total_characters
        start = part.next_start  # type: ignore[assignment]
    assert len(parts) > 1
    assert "".join(parts) == whole.text


async def test_redirects_are_followed_and_the_last_address_is_told(serve: Serve, fetcher: PageFetcher) -> None:
    async def hop(request: web.Request) -> web.Response:
        left = int(request.path.strip("/") or 0)
        if left:
            raise web.HTTPFound(f"/{left - 1}")
        return web.Response(text="arrived", content_type="text/plain")

    address = await serve(hop)
    page = await fetcher.fetch(f"{address}{MAX_REDIRECTS}")
    assert (page.url, page.text) == (f"{address}0", "arrived")
    with pytest.raises(PageUnavailable, match="redirects more than 5 times"):
        await fetcher.fetch(f"{address}{MAX_REDIRECTS + 1}")


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "file:///etc/passwd",
        "http://0x7f000002:1/",
    ],
)
async def test_a_redirect_to_where_users_may_not_reach_is_refused(serve: Serve, target: str) -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(target)

    address = await serve(away)
    with pytest.raises(EgressRefused):
        # Only the server's own address is admitted, so that other loopback addresses are as forbidden as elsewhere.
        await PageFetcher(EgressGuard([ip_network("127.0.0.1/32")])).fetch(address.replace("localhost", "127.0.0.1"))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost/", "http://169.254.169.254/", "file:///etc/passwd", "ftp://example.org/", "nonsense"],
)
async def test_addresses_that_users_may_not_reach_are_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(EgressRefused):
        await PageFetcher(EgressGuard()).fetch(url)


async def test_a_host_that_does_not_exist_is_named(fetcher: PageFetcher) -> None:
    with pytest.raises(HostNotFound, match=r"nowhere\.invalid"):
        await fetcher.fetch("http://nowhere.invalid/")


async def test_a_refused_connection_says_what_to_check(serve: Serve, fetcher: PageFetcher, unused_tcp_port: int) -> None:
    with pytest.raises(PageUnavailable, match="could not be reached"):
        await fetcher.fetch(f"http://127.0.0.1:{unused_tcp_port}/")


async def test_a_page_larger_than_the_cap_is_cut_and_says_so(serve: Serve, fetcher: PageFetcher) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"a" * 65_536)
        except ConnectionError:
            return response

    page = await fetcher.fetch(await serve(endless), max_characters=1_000)
    assert page.truncated
    assert page.total_characters == MAX_BODY_BYTES


async def test_a_compression_bomb_is_cut_after_unpacking(serve: Serve, fetcher: PageFetcher) -> None:
    bomb = gzip.compress(b"<p>bomb</p>" * 10_000_000, compresslevel=1)

    async def packed(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})

    page = await fetcher.fetch(await serve(packed), max_characters=1_000)
    assert page.truncated
    assert page.total_characters == MAX_BODY_BYTES


async def test_a_server_that_does_not_answer_is_given_up(serve: Serve) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    fetcher = PageFetcher(EgressGuard([ip_network("127.0.0.0/8")]), timeout=0.3)
    with pytest.raises(PageUnavailable, match=r"did not answer within 0\.3 s"):
        await fetcher.fetch(await serve(silent))


@pytest.mark.parametrize("content_type", ["application/pdf", "image/png", "application/octet-stream", "video/mp4"])
async def test_what_is_not_text_is_refused_by_its_type(serve: Serve, fetcher: PageFetcher, content_type: str) -> None:
    async def binary(request: web.Request) -> web.Response:
        return web.Response(body=b"\x00", content_type=content_type)

    with pytest.raises(PageUnavailable, match=f"is {content_type}, not text"):
        await fetcher.fetch(await serve(binary))


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "search for"), (403, "another source"), (500, "Try again"), (429, "Try again")]
)
async def test_an_error_status_is_told_with_what_to_do(serve: Serve, fetcher: PageFetcher, status: int, advice: str) -> None:
    address = await serve(_html("no", status=status))
    with pytest.raises(PageUnavailable, match=f"answered {status}.*{advice}"):
        await fetcher.fetch(address)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<title>Grüße</title>".encode("latin-1"), "text/html; charset=latin-1"),
        ('<meta charset="iso-8859-1"><title>Grüße</title>'.encode("latin-1"), "text/html"),
        ("\ufeff<title>Grüße</title>".encode("utf-16-le"), "text/html"),
        ("<title>Grüße</title>".encode(), "text/html; charset=no-such-charset"),
        ("<title>Grüße</title>".encode(), "text/html"),
    ],
)
async def test_the_charset_is_found_where_pages_say_it(
    serve: Serve, fetcher: PageFetcher, body: bytes, content_type: str
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": content_type})

    assert (await fetcher.fetch(await serve(answer))).title == "Grüße"


async def test_json_is_returned_as_it_is(serve: Serve, fetcher: PageFetcher) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"a": [1, 2]})

    page = await fetcher.fetch(await serve(answer))
    assert (page.text, page.content_type, page.links) == ('{"a": [1, 2]}', "application/json", [])


async def test_no_cookie_of_one_fetch_is_sent_with_the_next(serve: Serve, fetcher: PageFetcher) -> None:
    seen: list[str | None] = []

    async def track(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = web.Response(text="ok", content_type="text/plain")
        response.set_cookie("id", "1")
        return response

    address = await serve(track)
    await fetcher.fetch(address)
    await fetcher.fetch(address)
    assert seen == [None, None]


@pytest.mark.parametrize(
    "nasty",
    [
        "",
        "<",
        "<!-- " * 1000,
        "<div>" * 20_000 + "deep",
        "<a" + " x=1" * 50_000 + ">",
        "<p>" * 50_000,
        "<article>" * 5_000 + "x",
        "\0\0<p>nul</p>",
        "<table>" * 300 + "<tr><td>x",
        "<!DOCTYPE a [<!ENTITY b 'bomb'>]><p>&b;</p>",
        "<base href='http://['><a href='http://['>x</a>",
        "<![CDATA[x]]>",
    ],
    ids=lambda html: html[:12],
)
def test_hostile_markup_is_read_without_harm(nasty: str) -> None:
    page = read_page({"html": nasty, "url": "https://example.org/"})
    assert isinstance(page["text"], str)

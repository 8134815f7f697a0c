"""The wiki as its callers use it: real repositories, a real indexing process, a real git server."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from auralink.core.errors import AuralinkError, InvalidRequest
from auralink.servers.deepwiki import jobs
from auralink.servers.deepwiki import wiki as module
from auralink.servers.deepwiki.errors import (
    IndexingFailed,
    RepositoryNotFound,
    RepositoryTooLarge,
    RepositoryUnreachable,
    TopicNotFound,
)
from auralink.servers.deepwiki.models import PageRef, Source
from auralink.servers.deepwiki.wiki import Wiki
from tests.servers.deepwiki.conftest import SHOP, allow, commit, make_repository, write

REPO = "acme/shop"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The builds that were started, as they happen."""
    started: list[str] = []
    real = jobs.build

    async def counted(source: module.Repository, *rest: object, **options: object) -> None:
        started.append(source.location)
        await real(source, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "build", counted)
    return started


async def test_a_question_is_answered_with_verbatim_lines_of_the_commit(shop: Path, wiki: Wiki) -> None:
    answer = await wiki.ask(REPO, "How long does a refused card leave the order open?")
    assert answer.found
    assert answer.confidence > 0.5
    assert answer.commit == commit_of(shop)
    best = answer.sources[0]
    assert (best.file, best.heading) == ("README.md", "Shop › Payments")
    assert "A refused card leaves the order open for ten minutes." in answer.answer
    for source in answer.sources:
        assert SHOP[source.file].split("\n")[source.line - 1 : source.end_line] == source.excerpt.split("\n")


def commit_of(folder: Path) -> str:
    head = (folder / ".git/refs/heads/master").read_text().strip()
    assert len(head) == 40
    return head


async def test_words_of_a_question_find_the_identifier_they_make(reader: Wiki) -> None:
    answer = await reader.ask(REPO, "How does the shop place an order?")
    assert answer.sources[0].file == "src/shop/orders.py"
    assert "def place_order" in answer.sources[0].excerpt
    hits = (await reader.search(REPO, "capture payment", 3)).hits
    assert "capturePayment" in hits[0].excerpt


@pytest.mark.parametrize("question", ["What is the capital of France?", "How is a Kubernetes cluster provisioned?", "???", "the"])
async def test_a_question_that_the_repository_does_not_answer_is_not_found(question: str, reader: Wiki) -> None:
    answer = await reader.ask(REPO, question)
    assert not answer.found
    assert answer.sources == []
    assert answer.confidence < 0.5
    assert answer.answer.startswith("Not found")


async def test_lock_files_and_binaries_are_never_quoted(reader: Wiki) -> None:
    assert (await reader.search(REPO, "locked secrets poetry", 10)).hits == []


async def test_a_new_commit_is_seen_by_the_next_question_and_only_changed_files_are_read(
    shop: Path, wiki: Wiki, builds: list[str]
) -> None:
    before = await wiki.ask(REPO, "When are vouchers redeemed?")
    assert not before.found
    made = commit(shop, {"README.md": "# Shop\n\n## Vouchers\n\nVouchers are redeemed at the till.\n"})
    after = await wiki.ask(REPO, "When are vouchers redeemed?")
    assert (after.found, after.commit) == (True, made)
    assert "README.md" not in {hit.file for hit in (await wiki.search(REPO, "payments refused card")).hits}
    assert len(builds) == 2


async def test_an_unchanged_repository_starts_no_process(shop: Path, wiki: Wiki, builds: list[str]) -> None:
    await wiki.ask(REPO, "payments")
    await asyncio.gather(*(wiki.search(REPO, "payments") for _ in range(5)))
    assert len(builds) == 1


async def test_callers_that_come_together_share_one_build(shop: Path, wiki: Wiki, builds: list[str]) -> None:
    answers = await asyncio.gather(*(wiki.ask(REPO, "When are payments captured?") for _ in range(8)))
    assert all(answer.found for answer in answers)
    assert len(builds) == 1


async def test_a_caller_that_goes_away_does_not_take_the_build_with_it(shop: Path, wiki: Wiki, builds: list[str]) -> None:
    started = asyncio.Event()

    async def progress(_stage: str, _done: int, _total: int) -> None:
        started.set()

    impatient = asyncio.create_task(wiki.ask(REPO, "payments", progress))
    await asyncio.wait_for(started.wait(), 20)
    patient = asyncio.create_task(wiki.ask(REPO, "When are payments captured?"))
    impatient.cancel()
    assert (await patient).found
    assert len(builds) == 1


async def test_an_index_is_kept_across_restarts_and_shared_between_services(
    shop: Path, roots: Path, tmp_path: Path, wiki: Wiki, builds: list[str]
) -> None:
    await wiki.ask(REPO, "payments")
    other = Wiki(tmp_path / "data", [roots], check_url=allow)
    assert (await other.ask(REPO, "When are payments captured?")).found
    assert len(builds) == 1
    commit(shop, {"new.md": "# Vouchers\n\nVouchers are redeemed at the till.\n"})
    answers = await asyncio.gather(*(one.ask(REPO, "When are vouchers redeemed?") for one in (wiki, other)))
    assert all(answer.found for answer in answers)
    await other.close()


@pytest.mark.parametrize("damage", ["state.json", "files.json", "passages/meta.json", "files"])
async def test_a_damaged_index_is_built_again(shop: Path, roots: Path, tmp_path: Path, wiki: Wiki, damage: str) -> None:
    await wiki.ask(REPO, "payments")
    place = next((tmp_path / "data/wiki").glob(f"*/index-*/{damage}"))
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.write_text("{")
    commit(shop, {"new.md": "# Vouchers\n\nVouchers are redeemed at the till.\n"})
    fresh = Wiki(tmp_path / "data", [roots], check_url=allow)
    assert (await fresh.ask(REPO, "When are vouchers redeemed?")).found
    assert (await fresh.ask(REPO, "When are payments captured?")).found
    assert len({(hit.file, hit.line) for hit in (await fresh.search(REPO, "payments", 50)).hits}) == len(
        (await fresh.search(REPO, "payments", 50)).hits
    )
    await fresh.close()


async def test_a_plain_folder_is_read_without_its_hidden_files(roots: Path, wiki: Wiki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PLAIN_CHECK_SECONDS", 0.0)
    write(roots, {"acme/notes/guide.md": "# Guide\n\nThe kettle boils at noon.\n", "acme/notes/.env": "KETTLE_PASSWORD=boils\n"})
    (roots / "acme/notes/link.md").symlink_to("/etc/hostname")
    answer = await wiki.ask("acme/notes", "When does the kettle boil?")
    assert (answer.commit, [source.file for source in answer.sources]) == (None, ["guide.md"])
    write(roots, {"acme/notes/guide.md": "# Guide\n\nThe teapot whistles at dusk now.\n"})
    assert (await wiki.ask("acme/notes", "When does the teapot whistle?")).found


async def test_a_repository_without_a_commit_says_so(roots: Path, wiki: Wiki) -> None:
    from dulwich import porcelain

    (roots / "acme/empty").mkdir(parents=True)
    porcelain.init(str(roots / "acme/empty")).close()
    with pytest.raises(RepositoryNotFound, match="no commit"):
        await wiki.ask("acme/empty", "anything?")


@pytest.mark.parametrize("text", ["", "  ", "x" * 5000])
async def test_an_empty_or_endless_question_is_refused(text: str, reader: Wiki) -> None:
    for call in (reader.ask, reader.search):
        with pytest.raises(InvalidRequest):
            await call(REPO, text)
    with pytest.raises(InvalidRequest):
        await reader.search(REPO, "x", 51)


# Pages


async def test_the_table_of_contents_has_documents_first_then_code_by_folder(reader: Wiki) -> None:
    structure = await reader.structure(REPO)
    assert [(page.id, page.title) for page in structure.pages] == [
        ("README.md", "Shop"),
        ("docs/guide/*", "docs/guide"),
        ("src/shop", "src/shop"),
        ("web", "web"),
        ("tests", "tests"),
    ]
    assert [page.id for page in every(structure.pages)][-5:-2] == ["web", "web/cart.ts", "web/money.ts"]


def every(pages: Sequence[PageRef]) -> list[PageRef]:
    return [found for page in pages for found in (page, *every(page.children))]


async def test_a_module_page_has_purpose_public_names_with_signatures_and_importers(reader: Wiki) -> None:
    (page,) = (await reader.contents(REPO, "src/shop/orders.py")).pages
    assert "Orders: how they are placed, paid and cancelled." in page.content
    assert "- `class OrderBook` (src/shop/orders.py:6): All orders of the shop." in page.content
    assert "`def place_order(self, customer: str, items: list[str]) -> int`" in page.content
    assert "_next_number" not in page.content
    assert "## Imported by\n\n- src/shop/tracking.py\n- 1 test files" in page.content
    (script,) = (await reader.contents(REPO, "money")).pages
    assert "- web/cart.ts" in script.content


async def test_a_topic_is_an_id_a_name_a_title_or_a_subject(reader: Wiki) -> None:
    async def page_id(topic: str) -> str:
        return (await reader.contents(REPO, topic)).pages[0].id

    assert await page_id("docs/guide/shipping.md") == "docs/guide/shipping.md"
    assert await page_id("tracking") == "src/shop/tracking.py"
    assert await page_id("Shop") == "src/shop"
    assert await page_id("how parcels are tracked by the courier") in {"docs/guide/shipping.md", "src/shop/tracking.py"}
    with pytest.raises(TopicNotFound):
        await page_id("quantum chromodynamics")


async def test_a_document_page_is_the_document(reader: Wiki) -> None:
    (page,) = (await reader.contents(REPO, "README.md")).pages
    assert page.content == SHOP["README.md"].rstrip("\n")


async def test_without_a_topic_all_pages_come_in_the_order_of_the_table(reader: Wiki) -> None:
    contents = await reader.contents(REPO)
    assert [page.id for page in contents.pages] == [page.id for page in every((await reader.structure(REPO)).pages)]
    assert not contents.truncated


# Prose


class Author:
    """A writer that writes what it is told."""

    def __init__(self, prose: str | None) -> None:
        self.prose = prose

    async def write(self, question: str, passages: Sequence[Source]) -> str | None:
        return self.prose


@pytest.mark.parametrize(
    ("prose", "taken"),
    [
        ("Payments are captured when the parcel leaves [1].", True),
        ("They are captured (README.md:12).", True),
        ("They are captured at noon.", False),
        ("They are captured [9].", False),
        ("They are captured (README.md:999).", False),
        (None, False),
    ],
)
async def test_prose_is_taken_only_if_every_citation_exists(prose: str | None, taken: bool, shelf: Path) -> None:
    wiki = Wiki(shelf / "data", [shelf / "repos"], check_url=allow, writer=Author(prose))
    answer = await wiki.ask(REPO, "When are payments captured?")
    assert (answer.answer == prose) is taken
    assert answer.sources
    await wiki.close()


# Clones


async def test_a_clone_is_made_kept_and_brought_up_to_date_by_fetching(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    origin = tmp_path / "origin"
    first = make_repository(origin, SHOP)
    asked: list[str] = []

    async def check(url: str) -> Sequence[str]:
        asked.append(url)
        return ["127.0.0.1"]

    base = serve(origin)
    wiki = Wiki(tmp_path / "data", [], check_url=check, clone_base=base)
    answer = await wiki.ask(REPO, "When are payments captured?")
    assert (answer.found, answer.commit, asked) == (True, first, [f"{base}/acme/shop"])
    second = commit(origin, {"new.md": "# Vouchers\n\nVouchers are redeemed at the till.\n"})
    assert (await wiki.index(REPO)).commit == second
    assert (await wiki.ask(REPO, "When are vouchers redeemed?")).found
    await wiki.close()


async def test_an_old_clone_answers_at_once_and_asks_for_news_in_the_background(
    tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = tmp_path / "origin"
    first = make_repository(origin, SHOP)
    wiki = Wiki(tmp_path / "data", [], check_url=allow, clone_base=serve(origin))
    await wiki.ask(REPO, "payments")
    second = commit(origin, {"new.md": "news"})
    monkeypatch.setattr(module, "_FETCH_SECONDS", 0.0)
    monkeypatch.setattr(module, "_PLAIN_CHECK_SECONDS", 0.0)
    assert (await wiki.ask(REPO, "payments")).commit == first
    async with asyncio.timeout(20):
        while (await wiki.ask(REPO, "payments")).commit != second:
            await asyncio.sleep(0.02)
    await wiki.close()


async def test_a_repository_that_cannot_be_cloned_is_unreachable(
    tmp_path: Path, shop: Path, wiki: Wiki, serve: Callable[[Path], str]
) -> None:
    with pytest.raises(RepositoryUnreachable, match="could not be cloned"):
        await wiki.ask("no/where", "anything?")
    host = Wiki(tmp_path / "data", [], check_url=allow, clone_base=serve(shop))
    with pytest.raises(RepositoryUnreachable, match="no repository"):
        await host.ask("acme/other", "anything?")
    await host.close()


async def test_the_guard_is_asked_before_anything_is_sent_and_its_refusal_reaches_the_caller(tmp_path: Path) -> None:
    class Refused(AuralinkError):
        code = "refused"

    async def refuse(_url: str) -> None:
        raise Refused("no")

    wiki = Wiki(tmp_path / "data", [], check_url=refuse)
    with pytest.raises(Refused):
        await wiki.ask("https://169.254.169.254/a/b", "anything?")
    await wiki.close()


async def test_a_redirect_is_checked_before_it_is_followed(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    origin = tmp_path / "origin"
    make_repository(origin, SHOP)
    target = serve(origin)
    seen: list[str] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        place = f"{target}/acme/shop/info/refs?service=git-upload-pack"
        writer.write(f"HTTP/1.1 301 Moved\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def check(url: str) -> None:
        seen.append(url)

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
        old = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        wiki = Wiki(tmp_path / "data", [], check_url=check, clone_base=old)
        assert (await wiki.ask(REPO, "When are payments captured?")).found
        assert seen == [f"{old}/acme/shop", f"{target}/acme/shop"]
        await wiki.close()


async def test_a_host_that_hangs_or_talks_nonsense_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    connected, gone = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        gone.set()

    for answer, error in ((nonsense, RepositoryUnreachable), (hang, IndexingFailed)):
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            if answer is hang:
                monkeypatch.setattr(jobs, "DEADLINE", 1.0)
            base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            wiki = Wiki(tmp_path / "data", [], check_url=allow, clone_base=base)
            with pytest.raises(error):
                await wiki.ask(REPO, "anything?")
            await wiki.close()
    if connected.is_set():  # on a slow machine the deadline comes first
        await asyncio.wait_for(gone.wait(), 20)


async def test_a_clone_over_the_size_limit_is_refused(
    tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_BYTES", 2000)
    origin = tmp_path / "origin"
    make_repository(origin, SHOP)
    wiki = Wiki(tmp_path / "data", [], check_url=allow, clone_base=serve(origin))
    with pytest.raises((RepositoryTooLarge, IndexingFailed)):
        await wiki.ask(REPO, "anything?")
    await wiki.close()


async def test_only_the_clones_that_were_fetched_last_are_kept(
    tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_CLONES", 1)
    origin = tmp_path / "origin"
    make_repository(origin, SHOP)
    bases = [serve(origin), serve(origin)]
    for base in bases:
        wiki = Wiki(tmp_path / "data", [], check_url=allow, clone_base=base)
        assert (await wiki.ask(REPO, "When are payments captured?")).found
        await wiki.close()
    assert len(list((tmp_path / "data/wiki").iterdir())) == 1


async def test_closing_ends_a_build_that_is_under_way(tmp_path: Path) -> None:
    connected, gone = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        wiki = Wiki(tmp_path / "data", [], check_url=allow, clone_base=base)
        asking = asyncio.create_task(wiki.ask(REPO, "anything?"))
        await asyncio.wait_for(connected.wait(), 20)
        await wiki.close()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(gone.wait(), 20)

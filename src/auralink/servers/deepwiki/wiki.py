"""The wiki of every repository that may be read: indexes on demand, keeps itself up to date, answers.

Each call first finds out, from ref files alone, whether the repository moved; only then is the index brought up to date, by
one process per repository however many callers wait (`jobs`). A clone is asked for news in the background once its last
fetch is five minutes old: the answer at hand is given, with the commit it is from. Searching runs in a thread.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from auralink.core.errors import InvalidRequest
from auralink.servers.deepwiki.answers import Found, cites_only, compose, find_answer, quote
from auralink.servers.deepwiki.errors import IndexingFailed, TopicNotFound
from auralink.servers.deepwiki.index import State, WikiIndex, folder, read_state
from auralink.servers.deepwiki.jobs import Progress, UrlCheck, build
from auralink.servers.deepwiki.models import Answer, Contents, Page, SearchResult, Source, Structure
from auralink.servers.deepwiki.pages import find_page_id, page, page_ids
from auralink.servers.deepwiki.ranking import rank, read_query
from auralink.servers.deepwiki.repository import Source as Repository
from auralink.servers.deepwiki.repository import plain_fingerprint, read_head, resolve
from auralink.servers.deepwiki.structure import Shape, read_shape

MAX_LIMIT = 50
MAX_TEXT = 4_000
_CONTENTS_BYTES = 200_000
_OPEN_INDEXES = 8
_BUILDS = 2
_PLAIN_CHECK_SECONDS = 5.0
_FETCH_SECONDS = 300.0
_T = TypeVar("_T")


class Writer(Protocol):
    """Turns passages into prose that cites them as `[n]` or `file:line`; None if it cannot."""

    async def write(self, question: str, passages: Sequence[Source]) -> str | None: ...


@dataclass(slots=True)
class _Opened:
    """An index held open, the stamp of the state file it was opened at, and when it was last compared with its source."""

    index: WikiIndex
    stamp: int
    checked: float
    shape: Shape | None = None


@dataclass(slots=True)
class _Flight:
    """A build under way and who wants to hear of its progress."""

    task: "asyncio.Task[None]"
    listeners: list[Progress] = field(default_factory=list)


class Wiki:
    """Answers about repositories. One per process; several processes may share the data directory."""

    def __init__(
        self,
        data_dir: Path,
        roots: Sequence[Path],
        *,
        check_url: UrlCheck,
        writer: Writer | None = None,
        clone_base: str = "https://github.com",
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._roots = tuple(root.resolve() for root in roots)
        self._check_url = check_url
        self._writer = writer
        self._clone_base = clone_base
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._slots = asyncio.Semaphore(_BUILDS)

    async def structure(self, repo: str, progress: Progress | None = None) -> Structure:
        """The table of contents: documents, then code by folder."""
        opened = await self._opened(repo, progress)
        shape = await asyncio.to_thread(_shape, opened)
        commit = opened.index.state.commit
        return Structure(repo_name=repo, commit=commit, pages=list(shape.pages), truncated=shape.truncated)

    async def contents(self, repo: str, topic: str | None = None, progress: Progress | None = None) -> Contents:
        """The page of a topic (an id, name or title of the table of contents, else the best match); without one, all
        pages up to 200 kB. Raises TopicNotFound."""
        opened = await self._opened(repo, progress)
        pages, truncated = await asyncio.to_thread(_contents, opened, topic)
        if topic and not pages:
            raise TopicNotFound(f"The wiki of {repo} has no page on '{topic[:200]}'; read_wiki_structure lists its pages.")
        return Contents(repo_name=repo, commit=opened.index.state.commit, pages=pages, truncated=truncated)

    async def search(self, repo: str, query: str, limit: int = 10, progress: Progress | None = None) -> SearchResult:
        """The passages that match best, at most `limit` (1 to 50)."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit is {limit}; give one from 1 to {MAX_LIMIT}.")
        _check_text("query", query)
        opened = await self._opened(repo, progress)
        hits = await asyncio.to_thread(_search, opened.index, query, limit)
        return SearchResult(repo_name=repo, commit=opened.index.state.commit, query=query, hits=hits)

    async def ask(self, repo: str, question: str, progress: Progress | None = None) -> Answer:
        """What the repository says to a question, quoted; `found` is false and there are no sources if it says nothing."""
        _check_text("question", question)
        opened = await self._opened(repo, progress)
        found = await asyncio.to_thread(find_answer, question, opened.index)
        commit = opened.index.state.commit
        return Answer(
            repo_name=repo,
            commit=commit,
            question=question,
            found=bool(found.sources),
            answer=await self._write(question, found) or compose(found.sources, commit),
            sources=list(found.sources),
            confidence=round(found.confidence, 3),
        )

    async def index(self, repo: str, progress: Progress | None = None) -> State:
        """Bring the index up to date now, asking a clone's remote as well; what it holds then."""
        repository = self._resolve(repo)
        await self._build(repository, fetch=True, progress=progress)
        return (await self._load(repository)).index.state

    async def close(self) -> None:
        """Stop builds that are under way; what they had written is consistent."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._open.clear()

    async def _write(self, question: str, found: Found) -> str | None:
        """Prose by the writer, if there is one and it cites only what was found."""
        if self._writer is None or not found.sources:
            return None
        prose = await self._writer.write(question, found.sources)
        return prose if prose and cites_only(prose, found.sources) else None

    def _resolve(self, repo: str) -> Repository:
        return resolve(repo, roots=self._roots, data_dir=self._data_dir, clone_base=self._clone_base)

    def _home(self, repository: Repository) -> Path:
        return self._data_dir / "wiki" / repository.key

    async def _opened(self, repo: str, progress: Progress | None) -> _Opened:
        """The repository's index, open and up to date."""
        repository = self._resolve(repo)
        try:
            opened = await self._load(repository)
        except ValueError:
            await self._build(repository, fetch=False, progress=progress)
            return await self._load(repository)
        if repository.kind == "clone":
            self._refresh(repository, opened)
        elif await self._moved(repository, opened):
            await self._build(repository, fetch=False, progress=progress)
            return await self._load(repository)
        return opened

    async def _load(self, repository: Repository) -> _Opened:
        """The index as it is on disk, reopened if another build replaced it; ValueError if there is none."""
        home, key = self._home(repository), repository.key
        try:
            stamp = (folder(home) / "state.json").stat().st_mtime_ns
        except OSError as error:
            raise ValueError(f"no index under {home}") from error
        opened = self._open.get(key)
        if opened is None or opened.stamp != stamp:
            opened = _Opened(await asyncio.to_thread(WikiIndex, home), stamp, time.monotonic())
            self._open[key] = opened
            if len(self._open) > _OPEN_INDEXES:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return opened

    async def _moved(self, repository: Repository, opened: _Opened) -> bool:
        path, state = Path(repository.location), opened.index.state
        if repository.kind == "git":
            head = read_head(path)
            if head is not None:
                return head != state.commit
        now = time.monotonic()
        if now - opened.checked < _PLAIN_CHECK_SECONDS:
            return False
        opened.checked = now
        if repository.kind == "git":
            return True  # refs in a form that only the indexing process reads: let it look
        return await asyncio.to_thread(plain_fingerprint, path, self._data_dir) != state.fingerprint

    def _refresh(self, repository: Repository, opened: _Opened) -> None:
        """Ask the remote for news in the background, if it is time; failing leaves the index as it is."""
        try:
            age = time.time() - (self._home(repository) / "fetched").stat().st_mtime
        except OSError:
            age = _FETCH_SECONDS
        if age >= _FETCH_SECONDS and time.monotonic() - opened.checked >= _PLAIN_CHECK_SECONDS:
            opened.checked = time.monotonic()
            self._flight(repository, fetch=True)

    async def _build(self, repository: Repository, *, fetch: bool, progress: Progress | None) -> None:
        flight = self._flight(repository, fetch=fetch)
        if progress:
            flight.listeners.append(progress)
        await asyncio.shield(flight.task)

    def _flight(self, repository: Repository, *, fetch: bool) -> _Flight:
        """The build of this repository that is under way, or a new one."""
        flight = self._flights.get(repository.key)
        if flight is None:
            listeners: list[Progress] = []
            task = asyncio.create_task(self._run(repository, fetch, listeners))
            flight = self._flights[repository.key] = _Flight(task, listeners)
            task.add_done_callback(lambda done: self._landed(repository.key, done))
        return flight

    def _landed(self, key: str, task: "asyncio.Task[None]") -> None:
        self._flights.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; a background refresh has nobody to tell

    async def _run(self, repository: Repository, fetch: bool, listeners: list[Progress]) -> None:
        async def tell(stage: str, done: int, total: int) -> None:
            for listener in listeners:
                await listener(stage, done, total)

        async with self._slots:
            home = self._home(repository)
            excluded = self._data_dir
            await build(repository, home, excluded=excluded, check_url=self._check_url, fetch=fetch, progress=tell)
            if await asyncio.to_thread(read_state, home) is None:
                raise IndexingFailed(f"{repository.location} was indexed but its index is missing; ask again.")


def _check_text(name: str, text: str) -> None:
    if not text.strip() or len(text) > MAX_TEXT:
        raise InvalidRequest(f"The {name} has {len(text)} characters; give 1 to {MAX_TEXT}.")


def _shape(opened: _Opened) -> Shape:
    if opened.shape is None:
        opened.shape = read_shape(opened.index.facts())
    return opened.shape


def _search(index: WikiIndex, text: str, limit: int) -> list[Source]:
    query = read_query(text, index)
    return [quote(entry, query) for entry in rank(query, index, limit)]


def _contents(opened: _Opened, topic: str | None) -> tuple[list[Page], bool]:
    shape, index = _shape(opened), opened.index
    if topic:
        page_id = find_page_id(topic, shape) or next((hit.file for hit in _search(index, topic, 1)), None)
        found = page(page_id, index, shape) if page_id else None
        return ([found] if found else []), False
    pages: list[Page] = []
    size = 0
    for page_id in page_ids(shape):
        made = page(page_id, index, shape)
        size += len(made.content) if made else 0
        if size > _CONTENTS_BYTES:
            return pages, True
        pages += [made] if made else []
    return pages, False

"""What the index stores of a file, made from its bytes alone: a pure function, so that files can be prepared in parallel."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson

from auralink.servers.deepwiki.chunks import Chunk, ParsedFile, parse
from auralink.servers.deepwiki.definitions import Definition, walk
from auralink.servers.deepwiki.terms import camel_parts, compound_identifiers, spoken

_BATCH = 32
_MAX_WORKERS = 4


@dataclass(frozen=True, slots=True)
class PassageDocument:
    """The fields of one document of the `passages` index."""

    body: str
    parts: str
    identifiers: str
    name: str
    stored: bytes


@dataclass(frozen=True, slots=True)
class FileDocuments:
    """Everything the index stores of one file."""

    file: str
    path: str
    names: str
    facts: bytes
    passages: tuple[PassageDocument, ...]


Batch = list[tuple[str, bytes]]


def prepare(path: str, data: bytes) -> FileDocuments | None:
    """The documents of a file, None if it is not indexed."""
    parsed = parse(path, data)
    if parsed is None:
        return None
    return FileDocuments(
        file=path,
        path=f"{spoken(path)} {path}",
        names=" ".join(spoken(name) for name in _names(parsed)),
        facts=orjson.dumps(_facts(parsed)),
        passages=tuple(_passage(chunk) for chunk in parsed.chunks),
    )


def prepare_all(paths: Sequence[str], read: Callable[[str], bytes]) -> Iterator[FileDocuments]:
    """The documents of many files, in order; on several processors if there are that many files and processors."""
    workers = min(len(os.sched_getaffinity(0)), _MAX_WORKERS)
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    if workers < 2 or len(batches) < 4 * workers:
        yield from (made for path in paths if (made := prepare(path, read(path))))
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[list[FileDocuments]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(_prepare_batch, [(path, read(path)) for path in batch]))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _prepare_batch(batch: Batch) -> list[FileDocuments]:
    return [made for path, data in batch if (made := prepare(path, data))]


def _passage(chunk: Chunk) -> PassageDocument:
    compounds = compound_identifiers(chunk.text)
    return PassageDocument(
        body=chunk.text,
        parts=" ".join(camel_parts(compounds)),
        identifiers=" ".join([*compounds, chunk.heading]),
        name=spoken(chunk.heading),
        stored=orjson.dumps((chunk.kind, chunk.line, chunk.end_line, chunk.heading, chunk.text)),
    )


def _names(parsed: ParsedFile) -> list[str]:
    found = [definition.name for definition in walk(parsed.outline.definitions)]
    return found or list(dict.fromkeys(chunk.heading for chunk in parsed.chunks))


def _facts(parsed: ParsedFile) -> dict[str, Any]:
    return {
        "title": parsed.title,
        "purpose": parsed.outline.purpose,
        "definitions": [_fact(definition) for definition in parsed.outline.definitions],
        "imports": parsed.outline.imports,
    }


def _fact(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "kind": definition.kind,
        "line": definition.line,
        "signature": definition.signature,
        "summary": definition.summary,
        "public": definition.public,
        "members": [_fact(member) for member in definition.members],
    }

"""Bringing an index to a snapshot: only what changed, by content id, is read, parsed and written."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any

import orjson
import tantivy

from auralink.servers.deepwiki.chunks import Chunk, ParsedFile, parse
from auralink.servers.deepwiki.definitions import Definition, walk
from auralink.servers.deepwiki.index import State, folder, open_part, read_state
from auralink.servers.deepwiki.snapshots import MAX_FILES, Snapshot
from auralink.servers.deepwiki.terms import camel_parts, compound_identifiers, spoken

_HEAP = 48 << 20
Progress = Callable[[str, int, int], None]


def update(home: Path, snapshot: Snapshot, fingerprint: str = "", progress: Progress | None = None) -> State:
    """Make the index under `home` hold exactly the snapshot's files; rebuilt from nothing if it is missing or damaged."""
    if read_state(home) is None or _known(home) is None:
        rmtree(folder(home), ignore_errors=True)
    try:
        return _update(home, snapshot, fingerprint, progress)
    except (ValueError, OSError):
        rmtree(folder(home), ignore_errors=True)
        return _update(home, snapshot, fingerprint, progress)


def _update(home: Path, snapshot: Snapshot, fingerprint: str, progress: Progress | None) -> State:
    known = _known(home) or {}
    changed = [path for path, blob in snapshot.files.items() if known.get(path) != blob]
    gone = [path for path in known if path not in snapshot.files]
    if changed or gone:
        _write(home, snapshot, changed, [*gone, *(path for path in changed if path in known)], progress)
    state = State(snapshot.commit, fingerprint, len(snapshot.files), len(snapshot.files) >= MAX_FILES, time.time())
    _replace(folder(home) / "files.json", snapshot.files)
    _replace(folder(home) / "state.json", asdict(state))
    return state


def _known(home: Path) -> dict[str, str] | None:
    try:
        known: dict[str, str] = orjson.loads((folder(home) / "files.json").read_bytes())
    except (OSError, ValueError):
        return None
    return known


def _replace(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(orjson.dumps(content))
    os.replace(temporary, path)  # noqa: PTH105 - atomic on the same file system


def _write(home: Path, snapshot: Snapshot, changed: list[str], stale: list[str], progress: Progress | None) -> None:
    passages, files = (open_part(home, "passages").writer(_HEAP, 1), open_part(home, "files").writer(_HEAP, 1))
    for path in stale:
        passages.delete_documents_by_term("key", path)
        files.delete_documents_by_term("key", path)
    for done, path in enumerate(changed):
        if progress and done % 100 == 0:
            progress("index", done, len(changed))
        _add(path, snapshot.read(path), passages, files)
    for writer in (passages, files):
        writer.commit()
        writer.wait_merging_threads()
    if progress:
        progress("index", len(changed), len(changed))


def _add(path: str, data: bytes, passages: tantivy.IndexWriter, files: tantivy.IndexWriter) -> None:
    parsed = parse(path, data)
    if parsed is None:
        return
    place = f"{spoken(path)} {path}"
    whole = tantivy.Document()
    for chunk in parsed.chunks:
        document = tantivy.Document()
        compounds = compound_identifiers(chunk.text)
        parts, identifiers = " ".join(camel_parts(compounds)), " ".join(compounds)
        _fill(document, path, chunk.text, parts, identifiers)
        document.add_text("name", f"{spoken(chunk.heading)}")
        document.add_text("identifiers", chunk.heading)
        document.add_text("path", place)
        document.add_bytes("stored", orjson.dumps((chunk.kind, chunk.line, chunk.end_line, chunk.heading, chunk.text)))
        passages.add_document(document)
        _fill(whole, None, chunk.text, parts, identifiers)
    whole.add_text("key", path)
    whole.add_text("name", " ".join(spoken(name) for name in _names(parsed)))
    whole.add_text("path", place)
    whole.add_bytes("stored", orjson.dumps(_facts(parsed)))
    files.add_document(whole)


def _fill(document: tantivy.Document, key: str | None, body: str, parts: str, identifiers: str) -> None:
    if key is not None:
        document.add_text("key", key)
    document.add_text("body", body)
    document.add_text("parts", parts)
    document.add_text("identifiers", identifiers)


def _names(parsed: ParsedFile) -> list[str]:
    found = [definition.name for definition in walk(parsed.outline.definitions)]
    return found or list(dict.fromkeys(chunk.heading for chunk in parsed.chunks))


def _facts(parsed: ParsedFile) -> dict[str, Any]:
    return {
        "title": parsed.title,
        "purpose": parsed.outline.purpose,
        "definitions": [_fact(definition) for definition in parsed.outline.definitions],
        "imports": parsed.outline.imports,
        "sections": _sections(parsed.chunks),
        "lines": max((chunk.end_line for chunk in parsed.chunks), default=0),
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


def _sections(chunks: tuple[Chunk, ...]) -> list[tuple[int, str]]:
    return [(chunk.line, chunk.heading) for chunk in chunks if chunk.kind == "prose" and chunk.heading]

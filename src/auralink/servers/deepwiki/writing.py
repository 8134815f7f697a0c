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

from auralink.servers.deepwiki.documents import FileDocuments, prepare_all
from auralink.servers.deepwiki.index import State, WikiIndex, folder, open_part
from auralink.servers.deepwiki.snapshots import MAX_FILES, Snapshot

_HEAP = 96 << 20
Progress = Callable[[str, int, int], None]


def update(home: Path, snapshot: Snapshot, fingerprint: str = "", progress: Progress | None = None) -> State:
    """Make the index under `home` hold exactly the snapshot's files; rebuilt from nothing if it is missing or damaged."""
    if not _is_whole(home):
        rmtree(folder(home), ignore_errors=True)
    return _update(home, snapshot, fingerprint, progress)


def _is_whole(home: Path) -> bool:
    """Whether there is an index that opens; asked before it is changed, for a change would hide what is missing."""
    try:
        WikiIndex(home)
    except (ValueError, OSError):
        return False
    return _known(home) is not None


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
    for done, made in enumerate(prepare_all(changed, snapshot.read)):
        if progress and done % 100 == 0:
            progress("index", done, len(changed))
        _add(made, passages, files)
    for writer in (passages, files):
        writer.commit()
        writer.wait_merging_threads()
    if progress:
        progress("index", len(changed), len(changed))


def _add(made: FileDocuments, passages: tantivy.IndexWriter, files: tantivy.IndexWriter) -> None:
    whole = _document(made.file, made.path, made.names, made.facts)
    for passage in made.passages:
        document = _document(made.file, made.path, passage.name, passage.stored)
        for target in (document, whole):
            target.add_text("body", passage.body)
            target.add_text("parts", passage.parts)
            target.add_text("identifiers", passage.identifiers)
        passages.add_document(document)
    files.add_document(whole)


def _document(key: str, path: str, name: str, stored: bytes) -> tantivy.Document:
    document = tantivy.Document()
    document.add_text("key", key)
    document.add_text("path", path)
    document.add_text("name", name)
    document.add_bytes("stored", stored)
    return document

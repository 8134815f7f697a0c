"""The pages of the wiki, in Markdown: a document as it is, a module or folder as its own sources describe it."""

import posixpath
from collections.abc import Iterator
from typing import Any

import tantivy

from auralink.servers.deepwiki.index import Passage, WikiIndex, passage_of
from auralink.servers.deepwiki.models import Page, PageRef
from auralink.servers.deepwiki.ranking import stems
from auralink.servers.deepwiki.selection import is_test
from auralink.servers.deepwiki.structure import FileSummary, Shape, is_document

_IMPORTERS = 30
_MENTIONS = 5
_DOCUMENT_PASSAGES = 2_000


def page(page_id: str, index: WikiIndex, shape: Shape) -> Page | None:
    """The page with this id (a file's or a folder's path), or None."""
    path = page_id.removesuffix("/*").strip("/")
    summary = shape.files.get(path)
    if summary is None:
        return _folder_page(path, page_id, index, shape)
    if is_document(path):
        return Page(id=path, title=summary.title or path, content=document(path, index))
    return Page(id=path, title=path, content=_module(path, index, shape))


def find_page_id(topic: str, shape: Shape) -> str | None:
    """The id of the page whose id, name or title is the topic, in this order."""
    wanted = topic.strip().strip("/").lower()
    refs = list(_walk(shape.pages))
    for read in (_ref_id, _ref_name, _ref_title):
        for ref in refs:
            if read(ref) == wanted:
                return ref.id
    return next((path for path in shape.files if path.lower() == wanted), None)


def _ref_id(ref: PageRef) -> str:
    return ref.id.lower().removesuffix("/*")


def _ref_name(ref: PageRef) -> str:
    return posixpath.basename(_ref_id(ref)).rsplit(".", 1)[0]


def _ref_title(ref: PageRef) -> str:
    return ref.title.lower()


def _walk(refs: tuple[PageRef, ...] | list[PageRef]) -> Iterator[PageRef]:
    for ref in refs:
        yield ref
        yield from _walk(ref.children)


def page_ids(shape: Shape) -> Iterator[str]:
    """The ids of all pages in the order of the table of contents."""
    yield from (ref.id for ref in _walk(shape.pages))


def document(path: str, index: WikiIndex) -> str:
    """The text of an indexed file; only blank lines may differ in number at its end."""
    found = index.passages.search(index.passages.term("key", path), _DOCUMENT_PASSAGES)
    lines: list[str] = []
    for passage in sorted((passage_of(entry) for _, entry in found), key=lambda one: one.line):
        lines += [""] * (passage.line - 1 - len(lines))
        lines += passage.text.split("\n")
    return "\n".join(lines)


def _module(path: str, index: WikiIndex, shape: Shape) -> str:
    fact = index.fact(path)
    parts = [f"# {path}", fact["purpose"] or "This file says nothing about its purpose."]
    names = list(_names(path, fact["definitions"]))
    parts.append("## Public names\n\n" + ("\n".join(names) if names else "None."))
    parts.append(_imported_by(shape.importers.get(path, ())))
    mentions = _mentions(path, index)
    if mentions:
        parts.append("## Mentioned in\n\n" + "\n".join(mentions))
    return "\n\n".join(part for part in parts if part)


def _names(path: str, definitions: list[dict[str, Any]]) -> Iterator[str]:
    for definition in definitions:
        if not definition["public"]:
            continue
        summary = f": {definition['summary']}" if definition["summary"] else ""
        yield f"- `{definition['signature']}` ({path}:{definition['line']}){summary}"
        yield from (f"  {line}" for line in _names(path, definition["members"]))


def _imported_by(importers: tuple[str, ...]) -> str:
    own = [path for path in importers if not is_test(path)]
    tests = len(importers) - len(own)
    if not importers:
        return ""
    lines = [f"- {path}" for path in own[:_IMPORTERS]]
    more = [f"- and {len(own) - _IMPORTERS} more"] if len(own) > _IMPORTERS else []
    return "## Imported by\n\n" + "\n".join([*lines, *more, *([f"- {tests} test files"] if tests else [])])


def _mentions(path: str, index: WikiIndex) -> list[str]:
    """Sections of documents that name the file, as `path` or as its name."""
    name = posixpath.basename(path)
    words = [index.passages.term("body", stem) for stem in stems(posixpath.splitext(name)[0])]
    if not words:
        return []
    every = tantivy.Query.boolean_query([(tantivy.Occur.Must, word) for word in words])
    found = (passage_of(entry) for _, entry in index.passages.search(every, 200))
    return [_mention(passage) for passage in found if passage.kind == "prose" and name in passage.text][:_MENTIONS]


def _mention(passage: Passage) -> str:
    return f"- {passage.file}:{passage.line} {passage.heading}".rstrip()


def _folder_page(path: str, page_id: str, index: WikiIndex, shape: Shape) -> Page | None:
    inside = {file: fact for file, fact in shape.files.items() if file.startswith(f"{path}/")}
    if not inside or not path:
        return None
    here = {file: fact for file, fact in inside.items() if "/" not in file[len(path) + 1 :]}
    parts = [f"# {path}", _purpose(path, here)]
    readme = next((file for file in here if posixpath.basename(file).lower().startswith("readme.")), None)
    if readme:
        parts.append(document(readme, index))
    folders = sorted({file[len(path) + 1 :].split("/")[0] for file in inside.keys() - here.keys()})
    if folders:
        parts.append("## Folders\n\n" + "\n".join(f"- {path}/{name}" for name in folders))
    rows = [f"- {file}: {fact.purpose or fact.title or _headline(fact)}".rstrip(": ") for file, fact in here.items()]
    if rows:
        parts.append("## Files\n\n" + "\n".join(rows))
    return Page(id=page_id, title=path, content="\n\n".join(part for part in parts if part))


def _purpose(path: str, here: dict[str, FileSummary]) -> str:
    for name in ("__init__.py", "doc.go", "index.ts", "index.js", "mod.ts"):
        fact = here.get(f"{path}/{name}")
        if fact and fact.purpose:
            return fact.purpose
    return ""


def _headline(file: FileSummary) -> str:
    return f"defines {', '.join(file.names)}" if file.names else ""

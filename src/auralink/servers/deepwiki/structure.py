"""The shape of a repository, from its files' outlines: table of contents, and who imports whom."""

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auralink.servers.deepwiki.models import PageRef
from auralink.servers.deepwiki.selection import CODE, PROSE, is_test

MAX_PAGES = 3_000
_NAMES = 8
_SCRIPT_ENDINGS = (".ts", ".tsx", ".js", ".jsx", ".mjs", ".d.ts", "/index.ts", "/index.tsx", "/index.js", "/index.mjs")


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What the table of contents needs of a file; the rest stays in the index."""

    title: str
    purpose: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Every indexed file by path, the table of contents, and for each code file the files that import it."""

    files: Mapping[str, FileSummary]
    pages: tuple[PageRef, ...]
    truncated: bool
    importers: Mapping[str, tuple[str, ...]]


def read_shape(facts: Iterable[tuple[str, Mapping[str, Any]]]) -> Shape:
    """The shape of the repository whose files have these facts."""
    found: dict[str, FileSummary] = {}
    imports: dict[str, list[str]] = {}
    for path, fact in facts:
        names = tuple(definition["name"] for definition in fact["definitions"] if definition["public"])
        found[path] = FileSummary(fact["title"], fact["purpose"], names[:_NAMES])
        imports[path] = fact["imports"]
    files = dict(sorted(found.items()))
    documents = [path for path in files if is_document(path)]
    modules = [path for path in files if path.endswith(CODE) and not is_document(path)]
    room = MAX_PAGES - len(documents)
    shown = sorted(modules, key=_importance)[: max(room, 0)]
    pages = (*_document_tree(documents[:MAX_PAGES], files), *_module_tree(sorted(shown)))
    return Shape(files, pages, len(documents) + len(modules) > MAX_PAGES, _importers(imports))


def is_document(path: str) -> bool:
    """Whether a path is prose for people: a text format, and not a list for machines such as requirements.txt."""
    name = posixpath.basename(path).lower()
    stem, dot, ending = name.rpartition(".")
    return (dot + ending) in PROSE and not (ending == "txt" and not stem.startswith(("readme", "license", "authors", "changes")))


def _importance(path: str) -> tuple[bool, int, str]:
    return (is_test(path), path.count("/"), path)


# The table of contents


def _document_tree(paths: list[str], files: Mapping[str, FileSummary]) -> Iterator[PageRef]:
    def order(path: str) -> tuple[bool, bool, str]:
        return ("/" in path, not posixpath.basename(path).lower().startswith(("readme", "index")), path)

    top = [path for path in sorted(paths, key=order) if "/" not in path]
    yield from (PageRef(id=path, title=files[path].title or path, kind="document") for path in top)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths, key=order):
        if "/" in path:
            by_folder[posixpath.dirname(path)].append(path)
    for folder, members in by_folder.items():
        children = [PageRef(id=path, title=files[path].title or posixpath.basename(path), kind="document") for path in members]
        yield PageRef(id=f"{folder}/*", title=folder, kind="folder", children=children)


def _module_tree(paths: list[str]) -> Iterator[PageRef]:
    """Folders nested as on disk; a chain of folders with nothing else in them is one entry."""
    root: dict[str, Any] = {}
    for path in paths:
        node = root
        for part in path.split("/"):
            node = node.setdefault(part, {})
    entries = list(_refs(root, ""))
    yield from sorted(entries, key=lambda ref: (is_test(f"{ref.id}/"), ref.kind == "module", ref.id))


def _refs(node: Mapping[str, Any], prefix: str) -> Iterator[PageRef]:
    for name, below in node.items():
        path = f"{prefix}{name}"
        if not below:
            yield PageRef(id=path, title=name, kind="module")
            continue
        children = list(_refs(below, f"{path}/"))
        if len(children) == 1 and children[0].kind == "folder":
            only = children[0]
            yield PageRef(id=only.id, title=f"{name}/{only.title}", kind="folder", children=only.children)
        else:
            yield PageRef(id=path, title=name, kind="folder", children=children)


# Who imports whom


def _importers(files: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    modules = {dotted: path for path in files if path.endswith((".py", ".pyi")) for dotted in _dotted(path, files)}
    packages: dict[str, list[str]] = defaultdict(list)
    for path in files:
        if path.endswith(".go") and not path.endswith("_test.go"):
            packages[posixpath.dirname(path)].append(path)
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for path, names in files.items():
        for name in names:
            for target in _targets(path, name, files, modules, packages):
                if target != path:
                    found[target][path] = None
    return {target: tuple(importers) for target, importers in found.items()}


def _targets(
    path: str, name: str, files: Collection[str], modules: Mapping[str, str], packages: Mapping[str, list[str]]
) -> Iterable[str]:
    if path.endswith((".py", ".pyi")):
        return _python_target(path, name, modules)
    if path.endswith(".go"):
        folder = next((folder for folder in _suffixes(name) if folder in packages), None)
        return packages[folder] if folder is not None else ()
    if not name.startswith("."):
        return ()
    base = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    stem = base.removesuffix(".js")
    return [target for target in (base, *(stem + ending for ending in _SCRIPT_ENDINGS)) if target in files][:1]


def _suffixes(name: str) -> Iterator[str]:
    parts = name.split("/")
    yield from ("/".join(parts[start:]) for start in range(1, len(parts)))


def _dotted(path: str, files: Collection[str]) -> Iterator[str]:
    """The names a Python file can be imported by: from the top of its package, and from the repository's root."""
    parts = path.rsplit(".", 1)[0].split("/")
    if parts[-1] == "__init__":
        parts.pop()
    start = len(parts) - 1
    while start > 0 and "/".join([*parts[:start], "__init__.py"]) in files:
        start -= 1
    yield ".".join(parts[start:])
    yield ".".join(parts)
    if parts and parts[0] in {"src", "lib"}:
        yield ".".join(parts[1:])


def _python_target(path: str, name: str, modules: Mapping[str, str]) -> Iterable[str]:
    dots = len(name) - len(name.lstrip("."))
    parts = name.lstrip(".").split(".") if name.lstrip(".") else []
    if dots:
        here = path.rsplit(".", 1)[0].split("/")[:-1]
        parts = [*here[: len(here) - dots + 1], *parts]
    while parts:
        target = modules.get(".".join(parts))
        if target:
            return (target,)
        parts = parts[:-1]
    return ()

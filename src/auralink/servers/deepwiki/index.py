"""The index of one repository on disk: passages and files, searchable with tantivy.

Two tantivy indexes (their statistics must not mix): `passages`, one document per passage, and `files`, one per file with its
outline. `state.json` says which commit they hold. Writing happens in the indexing process under a file lock; reading
anywhere, at any time: a reader sees the last commit until it reloads. Re-applying a change is harmless (a file's documents
are deleted before they are added), so a writer that dies leaves nothing to repair.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import tantivy

SCHEMA_VERSION = 1
"""Part of the folder's name: an index of another version is never opened, it is built again."""


@dataclass(frozen=True, slots=True)
class State:
    """What an index holds: `commit` is None for a plain directory, whose `fingerprint` then tells it apart."""

    commit: str | None
    fingerprint: str
    files: int
    truncated: bool
    indexed_at: float


def folder(home: Path) -> Path:
    """Where the index of this version lies inside a repository's folder."""
    return home / f"index-{SCHEMA_VERSION}"


def read_state(home: Path) -> State | None:
    """The state of the index under `home`, or None if there is none (or it is damaged)."""
    try:
        return State(**orjson.loads((folder(home) / "state.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def prose_analyzer() -> tantivy.TextAnalyzer:
    """Splits on anything but letters and digits, folds case, stems English."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    return (
        builder.filter(tantivy.Filter.remove_long(40))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


def identifier_analyzer() -> tantivy.TextAnalyzer:
    """Keeps identifiers whole, folds case."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(r"[A-Za-z0-9_]+"))
    return builder.filter(tantivy.Filter.lowercase()).build()


TEXT_FIELDS = ("body", "parts", "name", "path")
"""Stemmed words: of the text, of its camelCase identifiers taken apart, of headings or definitions, of the path."""


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("key", stored=True, tokenizer_name="raw", index_option="basic")
    for name in TEXT_FIELDS:
        builder.add_text_field(name, tokenizer_name="prose", index_option="freq")
    builder.add_text_field("identifiers", tokenizer_name="identifiers", index_option="freq")
    builder.add_bytes_field("stored", stored=True, indexed=False)
    return builder.build()


def open_part(home: Path, name: Literal["passages", "files"]) -> tantivy.Index:
    """One of the two tantivy indexes, made empty where it does not exist; ValueError if it is damaged."""
    path = folder(home) / name
    path.mkdir(parents=True, exist_ok=True)
    index = tantivy.Index(_schema(), path=str(path), reuse=True)
    index.register_tokenizer("prose", prose_analyzer())
    index.register_tokenizer("identifiers", identifier_analyzer())
    return index


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as it was found: lines from 1, inclusive."""

    file: str
    kind: str
    line: int
    end_line: int
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two indexes, open at one commit."""

    schema: tantivy.Schema
    searcher: tantivy.Searcher

    @classmethod
    def of(cls, index: tantivy.Index) -> "Part":
        index.reload()
        return cls(index.schema, index.searcher())

    def search(self, query: tantivy.Query, limit: int) -> list[tuple[float, tantivy.Document]]:
        found = self.searcher.search(query, limit, count=False)
        return [(score, self.searcher.doc(address)) for score, address in found.hits]

    def term(self, field: str, value: str) -> tantivy.Query:
        return tantivy.Query.term_query(self.schema, field, value, "freq")


class WikiIndex:
    """An index open for reading; consistent in itself, and unaffected by a writer until it is opened again."""

    def __init__(self, home: Path) -> None:
        state = read_state(home)
        if state is None or not all((folder(home) / part / "meta.json").exists() for part in ("passages", "files")):
            raise ValueError(f"no index under {home}")
        self.state = state
        self.passages = Part.of(open_part(home, "passages"))
        self.files = Part.of(open_part(home, "files"))

    def facts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is known of every file, by path: title, purpose, definitions, imports."""
        count = self.files.searcher.num_docs
        for address in self.files.searcher.search(tantivy.Query.all_query(), max(count, 1), count=False).hits:
            document = self.files.searcher.doc(address[1])
            yield str(document.get_first("key")), _facts_of(document)

    def fact(self, path: str) -> dict[str, Any]:
        """What is known of one indexed file."""
        found = self.files.search(self.files.term("key", path), 1)
        return _facts_of(found[0][1]) if found else {}


def _facts_of(document: tantivy.Document) -> dict[str, Any]:
    facts: dict[str, Any] = orjson.loads(bytes(document.get_first("stored") or b"{}"))
    return facts


def passage_of(document: tantivy.Document) -> Passage:
    """The passage that a document of the `passages` index stores."""
    kind, line, end_line, heading, text = orjson.loads(bytes(document.get_first("stored") or b""))
    return Passage(str(document.get_first("key")), kind, line, end_line, heading, text)

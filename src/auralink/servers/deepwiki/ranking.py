"""Which passages of an index answer a text best.

Hybrid of signals that are all in the index: BM25 of the passage and of the whole file (a passage counts more in a file
that is about the question), each summed over fields with their own weight: text, parts of identifiers, names of
definitions and headings, path. Adjacent words are also tried as one identifier ("call a tool" → `call_tool`), and paths that
the text names are preferred. The weights were measured with `bench/wiki.py`, not guessed.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import tantivy

from auralink.servers.deepwiki.index import Part, Passage, WikiIndex, passage_of, prose_analyzer
from auralink.servers.deepwiki.selection import is_history
from auralink.servers.deepwiki.terms import compound_identifiers, content_words, mentioned_paths, split_identifier

_MAX_TERMS = 40
_CANDIDATES = 150
_BEST_FILES = 12
_PER_FILE = 4


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each field counts in one of the two indexes."""

    body: float
    parts: float
    name: float
    path: float
    identifier: float
    pair: float


PASSAGE = Weights(body=1.2, parts=0.2, name=0.4, path=1.2, identifier=1.7, pair=1.0)
FILE = Weights(body=1.0, parts=0.3, name=0.7, path=2.0, identifier=1.0, pair=1.2)
_MENTIONED = 35.0
_HISTORY = 0.9
_DEFINED = 1.3


@dataclass(frozen=True, slots=True)
class Term:
    """A stemmed word of the question, what it weighs in this repository (its IDF) and whether it occurs there at all."""

    stem: str
    weight: float
    known: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A text as the index sees it."""

    terms: tuple[Term, ...]
    identifiers: tuple[str, ...]
    pairs: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage and how well it fits; scores compare within one query only."""

    passage: Passage
    score: float


@cache
def _analyzer() -> tantivy.TextAnalyzer:
    return prose_analyzer()


def stems(text: str) -> list[str]:
    """The text's words as the index knows them."""
    return _analyzer().analyze(text)


def read_query(text: str, index: WikiIndex) -> Query:
    """The terms of a text, the rarest 40 at most, with their weight in this repository."""
    words = content_words(text)
    split = [part for word in words for part in (split_identifier(word) or (word,))]
    terms = [_term(stem, index) for stem in dict.fromkeys(stems(" ".join(split)))]
    terms.sort(key=lambda term: -term.weight)
    compounds = [name.lower() for name in compound_identifiers(text)]
    lower = [word.lower() for word in words]
    pairs = [joined for a, b in pairwise(lower) for joined in (f"{a}_{b}", f"{a}{b}")]
    return Query(
        tuple(terms[:_MAX_TERMS]),
        tuple(dict.fromkeys(compounds)),
        tuple(dict.fromkeys(pairs[: 2 * _MAX_TERMS])),
        tuple(mentioned_paths(text)),
    )


def _term(stem: str, index: WikiIndex) -> Term:
    searcher = index.files.searcher
    count = max(searcher.num_docs, 1)
    found = max(searcher.doc_freq(field, stem) for field in ("body", "parts", "path"))
    return Term(stem, math.log(1 + (count - found + 0.5) / (found + 0.5)), found > 0)


def rank(query: Query, index: WikiIndex, limit: int) -> list[Ranked]:
    """The best `limit` passages, best first; nothing if no word of the query occurs."""
    by_file = _file_scores(query, index)
    clauses = _query(query, index.passages, PASSAGE)
    found = [(score, passage_of(document)) for score, document in index.passages.search(clauses, _CANDIDATES)]
    found += _missed(clauses, index, by_file, {passage.file for _, passage in found})
    named = {name.replace("_", "") for name in (*query.identifiers, *query.pairs)}
    ranked = [_ranked(passage, score, by_file, named) for score, passage in found]
    ranked.sort(key=lambda entry: -entry.score)
    return _mixed(ranked)[:limit]


def _mixed(ranked: Sequence[Ranked]) -> list[Ranked]:
    """The same, but what a file has beyond its best few stands at the end: no file fills the list."""
    seen: Counter[str] = Counter()
    first: list[Ranked] = []
    rest: list[Ranked] = []
    for entry in ranked:
        seen[entry.passage.file] += 1
        (first if seen[entry.passage.file] <= _PER_FILE else rest).append(entry)
    return first + rest


def _missed(
    clauses: tantivy.Query, index: WikiIndex, by_file: dict[str, float], present: set[str]
) -> Iterator[tuple[float, Passage]]:
    """The best passage of each file that is about the query as a whole although no passage of it stands out."""
    best = sorted(by_file, key=lambda file: -by_file[file])[:_BEST_FILES]
    for file in best:
        if file not in present:
            here = tantivy.Query.boost_query(index.passages.term("key", file), 0.0)
            within = tantivy.Query.boolean_query([(tantivy.Occur.Must, here), (tantivy.Occur.Must, clauses)])
            yield from ((score, passage_of(document)) for score, document in index.passages.search(within, 1))


def _ranked(passage: Passage, score: float, by_file: dict[str, float], named: set[str]) -> Ranked:
    score += by_file.get(passage.file, 0.0)
    if passage.heading.rpartition(".")[2].replace("_", "").lower() in named:
        score *= _DEFINED
    return Ranked(passage, score * _HISTORY if is_history(passage.file) else score)


def _file_scores(query: Query, index: WikiIndex) -> dict[str, float]:
    found = index.files.search(_query(query, index.files, FILE), _CANDIDATES)
    scores = {str(document.get_first("key")): score for score, document in found}
    for path in query.paths:
        for file in scores:
            if file == path or file.endswith("/" + path):
                scores[file] += _MENTIONED
    return scores


def _query(query: Query, part: Part, weights: Weights) -> tantivy.Query:
    fields = (("body", weights.body), ("parts", weights.parts), ("name", weights.name), ("path", weights.path))
    clauses = [_boost(part.term(field, term.stem), boost) for term in query.terms if term.known for field, boost in fields]
    clauses += [_boost(part.term("identifiers", name), weights.identifier) for name in query.identifiers]
    clauses += [_boost(part.term("identifiers", name), weights.pair) for name in query.pairs]
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, clause) for clause in clauses])


def _boost(query: tantivy.Query, boost: float) -> tantivy.Query:
    return tantivy.Query.boost_query(query, boost)


def files_of(ranked: Sequence[Ranked]) -> list[str]:
    """The files of the passages, best first, each once."""
    return list(dict.fromkeys(entry.passage.file for entry in ranked))

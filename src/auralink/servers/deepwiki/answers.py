"""Answering a question with what the repository says: its best passages, quoted, and how far they can be trusted.

Nothing is composed. The confidence is calibrated: it is the share of the question's meaning (its words, weighted by how
rare they are in this repository) that one of the quoted passages covers by itself, mapped by a logistic curve to the
probability that the question can be answered from the repository. The curve was fitted on labelled questions about three
repositories and checked on two others: 52 of their 56 questions fall on the right side of `THRESHOLD`. Fit and check are
`bench/wiki.py --calibrate`; below the threshold the answer is "not found".
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from auralink.servers.deepwiki.index import Passage, WikiIndex
from auralink.servers.deepwiki.models import Source
from auralink.servers.deepwiki.ranking import Query, Ranked, Term, rank, read_query, stems
from auralink.servers.deepwiki.selection import is_aside, is_history
from auralink.servers.deepwiki.terms import split_identifier, spoken

THRESHOLD = 0.5
INTERCEPT, SLOPE = -4.5, 7.7
NOT_FOUND = "Not found: nothing in this repository answers the question."
_SOURCES = 5
_QUOTED = 3
_RANKED = 150
_CONSIDERED = 30
_PER_FILE = 2
_EXCERPT_LINES = 14
_ASIDE, _ASKED_FOR = 0.35, 0.7


@dataclass(frozen=True, slots=True)
class Found:
    """The passages that answer, best first, and the probability that they do."""

    sources: tuple[Source, ...]
    confidence: float


def find_answer(question: str, index: WikiIndex) -> Found:
    """The best passages for a question; none, with what confidence remains, if they would not answer it."""
    query = read_query(question, index)
    if not any(term.known for term in query.terms):
        return Found((), 0.0)
    considered = _considered(question, query, rank(query, index, _RANKED))
    confidence = 1 / (1 + math.exp(-(INTERCEPT + SLOPE * _best(query, considered))))
    if confidence < THRESHOLD:
        return Found((), confidence)
    return Found(tuple(quote(entry, query) for entry, _ in considered[:_SOURCES]), confidence)


def _considered(question: str, query: Query, ranked: Sequence[Ranked]) -> list[tuple[Ranked, frozenset[str]]]:
    """Reordered for a reader, each with the stems it covers: what covers more of the question first, what only uses
    the thing after the thing itself, at most two passages of a file."""
    aside = _ASKED_FOR if re.search(r"\b(test|example|benchmark)", question, re.IGNORECASE) else _ASIDE
    likely = sorted(((_put_aside(entry, aside), entry) for entry in ranked), key=lambda pair: -pair[0])[:_CONSIDERED]
    weighed = []
    for score, entry in likely:
        covered = _covered(query.terms, entry.passage)
        weighed.append((Ranked(entry.passage, score * (0.4 + _mass(query.terms, covered))), covered))
    weighed.sort(key=lambda pair: -pair[0].score)
    by_file: Counter[str] = Counter()
    kept = []
    for entry, covered in weighed:
        by_file[entry.passage.file] += 1
        if by_file[entry.passage.file] <= _PER_FILE:
            kept.append((entry, covered))
    return kept


def _put_aside(entry: Ranked, factor: float) -> float:
    if is_history(entry.passage.file):
        return entry.score * _ASIDE
    return entry.score * factor if is_aside(entry.passage.file) else entry.score


def _covered(terms: Sequence[Term], passage: Passage) -> frozenset[str]:
    """The stems of the question that the passage, its heading or its path have."""
    words = re.findall(r"\w+", passage.text)
    parts = (part for word in dict.fromkeys(words) for part in split_identifier(word))
    present = set(stems(f"{' '.join(parts)} {passage.text} {spoken(passage.heading)} {spoken(passage.file)}"))
    return frozenset(term.stem for term in terms if term.stem in present)


def _mass(terms: Sequence[Term], covered: frozenset[str]) -> float:
    total = sum(term.weight for term in terms)
    return sum(term.weight for term in terms if term.stem in covered) / total if total else 0.0


def best_coverage(question: str, index: WikiIndex) -> float:
    """What the confidence is made of: the share of the question's meaning that one of the quoted passages has."""
    query = read_query(question, index)
    return _best(query, _considered(question, query, rank(query, index, _RANKED)))


def _best(query: Query, considered: Sequence[tuple[Ranked, frozenset[str]]]) -> float:
    return max((_mass(query.terms, covered) for _, covered in considered[:_QUOTED]), default=0.0)


def quote(ranked: Ranked, query: Query) -> Source:
    """The lines of a passage that say most about the query, from the start of a definition where that is close."""
    passage = ranked.passage
    lines = passage.text.split("\n")
    start, end = _window(lines, {term.stem: term.weight for term in query.terms})
    return Source(
        file=passage.file,
        line=passage.line + start,
        end_line=passage.line + end - 1,
        heading=passage.heading,
        excerpt="\n".join(lines[start:end]),
        score=round(ranked.score, 3),
    )


def _window(lines: Sequence[str], weights: dict[str, float]) -> tuple[int, int]:
    """The half-open range of at most 14 lines with the greatest weight of distinct words; the first such range."""
    if len(lines) <= _EXCERPT_LINES:
        return 0, len(lines)
    present = [
        weights.keys()
        & set(stems(f"{line} {' '.join(part for word in re.findall(r'[A-Za-z_]+', line) for part in split_identifier(word))}"))
        for line in lines
    ]
    starts = range(len(lines) - _EXCERPT_LINES + 1)
    best = max(starts, key=lambda at: (_weight(present[at : at + _EXCERPT_LINES], weights), -at))
    if _weight(present[:_EXCERPT_LINES], weights) >= 0.8 * _weight(present[best : best + _EXCERPT_LINES], weights):
        best = 0
    return best, best + _EXCERPT_LINES


def _weight(present: Sequence[set[str]], weights: dict[str, float]) -> float:
    return sum(weights[stem] for stem in set().union(*present))


def compose(sources: Sequence[Source], commit: str | None) -> str:
    """The quotations as text, each under its place."""
    if not sources:
        return NOT_FOUND
    at = f" at commit {commit[:12]}" if commit else ""
    parts = [f"The repository says{at}:"]
    for number, source in enumerate(sources[:_QUOTED], 1):
        name = f"{source.heading}, " if source.heading else ""
        parts.append(f"[{number}] {name}{source.file}:{source.line}-{source.end_line}\n```\n{source.excerpt}\n```")
    rest = [f"{source.file}:{source.line}" for source in sources[_QUOTED:]]
    if rest:
        parts.append(f"See also {', '.join(rest)}.")
    return "\n\n".join(parts)


_CITATION = re.compile(r"\[(\d+)\]")
_PLACE = re.compile(r"([\w./-]+\.\w+):(\d+)")


def cites_only(prose: str, sources: Sequence[Source]) -> bool:
    """Whether written prose cites at least one source, and nothing but existing ones: `[n]` or `file:line`."""
    numbers = [int(number) for number in _CITATION.findall(prose)]
    places = [(file, int(line)) for file, line in _PLACE.findall(prose)]
    known = all(1 <= number <= len(sources) for number in numbers)
    real = all(any(source.file == file and source.line <= line <= source.end_line for source in sources) for file, line in places)
    return bool(numbers or places) and known and real

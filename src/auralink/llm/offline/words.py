"""Words: how text is cut into them, which of them are one, and what counts as a token."""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

BYTES_A_TOKEN = 4
TOKENS_A_MESSAGE = 4
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+(?:\.\d+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9À-Þ])|\n+")
_BULLET = re.compile(r"^\s*(?:[-*•#>]+|\d+[.)])\s+")
STOPWORDS = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "again",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "between",
        "both",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "done",
        "down",
        "during",
        "each",
        "else",
        "every",
        "few",
        "for",
        "from",
        "further",
        "get",
        "give",
        "go",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "just",
        "know",
        "let",
        "like",
        "make",
        "many",
        "may",
        "me",
        "might",
        "more",
        "most",
        "much",
        "must",
        "my",
        "need",
        "no",
        "nor",
        "not",
        "now",
        "of",
        "off",
        "on",
        "once",
        "one",
        "only",
        "or",
        "other",
        "our",
        "ours",
        "out",
        "over",
        "own",
        "per",
        "please",
        "same",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "such",
        "tell",
        "than",
        "thank",
        "thanks",
        "that",
        "the",
        "their",
        "theirs",
        "them",
        "then",
        "there",
        "these",
        "they",
        "thing",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "us",
        "use",
        "used",
        "user",
        "using",
        "very",
        "via",
        "want",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "within",
        "without",
        "would",
        "you",
        "your",
        "yours",
    ]
)
SYNONYMS = (
    "calculate compute calculator evaluate arithmetic math sum",
    "search find lookup look query seek",
    "fetch read open load browse visit retrieve download page",
    "remember memory store save note memorize record",
    "ask question answer explain",
    "repo repository codebase project",
    "weather temperature forecast",
    "summarize summary summarise overview abstract",
    "delete remove erase drop forget",
    "create add make new insert",
    "update change modify edit rename",
    "list show enumerate display",
    "email mail",
    "file document",
    "analyze analyse analysis inspect examine review",
    "think reason solve plan",
    "translate translation",
    "delegate assign",
)
_SUFFIXES = (
    ("ations", "at"), ("ation", "at"), ("ators", "at"), ("ator", "at"), ("ating", "at"), ("ated", "at"), ("ates", "at"), ("ate", "at"),
    ("ises", "iz"), ("ised", "iz"), ("ising", "iz"), ("ise", "iz"), ("izes", "iz"), ("ized", "iz"), ("izing", "iz"), ("ize", "iz"),
    ("sses", "ss"), ("ies", "i"), ("ied", "i"), ("ing", ""), ("edly", ""), ("ed", ""), ("ers", ""), ("er", ""), ("ly", ""),
    ("es", ""), ("y", "i"), ("e", ""),
)  # fmt: skip


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """What a word has in common with its other forms; words of three letters are left alone."""
    word = word.lower()
    if len(word) <= 3 or not word.isalpha():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "es")):
        word = word[:-1]
    for suffix, left in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)] + left
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls" else word


def stem_set(words: str) -> frozenset[str]:
    """The stems of words, also of those that otherwise say nothing."""
    return frozenset(stem(word) for word in words.split())


def stems(text: str) -> list[str]:
    """The stems of a text's words, in order, also of names like `ask_question` and `readWiki`; without the words that say nothing."""
    return [stem(word) for word in _WORD.findall(text) if word.lower() not in STOPWORDS]


@lru_cache(maxsize=1)
def _groups() -> dict[str, frozenset[str]]:
    groups = [stem_set(line) for line in SYNONYMS]
    return {word: group for group in groups for word in group}


def synonyms(stemmed: str) -> frozenset[str]:
    """The stems that mean much the same, the word's own among them."""
    return _groups().get(stemmed, frozenset((stemmed,)))


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without bullets and headings' marks."""
    found = (_BULLET.sub("", part).strip() for part in _SENTENCE_END.split(text))
    return [part for part in found if any(character.isalnum() for character in part)]


def tokens(text: str) -> int:
    """How many tokens a text counts as: one for every four bytes of UTF-8, rounded up. Real tokenisers differ from each other as much
    as from this."""
    return -(-len(text.encode()) // BYTES_A_TOKEN)


def cut(text: str, limit: int) -> str:
    """As much of a text as `limit` tokens hold."""
    return text.encode()[: limit * BYTES_A_TOKEN].decode(errors="ignore")


def ranked(candidates: Iterable[str], wanted: frozenset[str]) -> list[tuple[float, int, str]]:
    """Sentences by how much of what is wanted they say, best first; each with its score and its place.

    A rare word counts more than one that every sentence has, two wanted words that stand together count a little more, and of
    equal sentences the earlier is better.
    """
    numbered = [(place, sentence, stems(sentence)) for place, sentence in enumerate(candidates)]
    among = [set(words) & wanted for _, _, words in numbered]
    frequency = {word: sum(word in found for found in among) for word in wanted}
    scored = []
    for (place, sentence, words), found in zip(numbered, among, strict=True):
        rarity = sum(1 / frequency[word] ** 0.5 for word in sorted(found))
        together = sum(first in wanted and second in wanted for first, second in pairwise(words))
        scored.append(((rarity + 0.25 * together) / (1 + len(words) / 60), place, sentence))
    return sorted(scored, key=lambda item: (-item[0], item[1]))

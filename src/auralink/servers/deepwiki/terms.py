"""Words as a repository uses them: identifiers split into parts, questions without their grammar.

Pure text in, text out; stemming belongs to the index, whose analyser is the only one that has to agree with itself.
"""

import re
from functools import lru_cache

_COMPOUND = re.compile(r"\b[A-Za-z_][A-Za-z0-9]*(?:_[A-Za-z0-9]|[a-z0-9][A-Z]|[A-Z]{2}[a-z])[A-Za-z0-9_]*")
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_'’]*")
_PATH = re.compile(
    r"(?:[\w.-]+/)+[\w.-]+|\b[\w-]+\.(?:py|pyi|js|jsx|mjs|ts|tsx|vue|go|md|rst|txt|toml|ya?ml|cfg|json|html|css|sh)\b"
)

STOPWORDS = frozenset(
    """a about above after again all also am an and any are aren't as at be because been before being below between both
    but by can can't cannot could did didn't do does doesn't doing don't down during each either else ever every few for
    from further get gets give given gives had has have having he her here hers him his how however i if in into is isn't
    it its itself just let lets like may me might more most must my no nor not now of off on once one only or other our
    ours out over own please same shall she should show shows so some such tell than that that's the their theirs them
    then there there's these they this those through to too under until up upon us very via want was way we were what
    what's when where where's whether which while who whom whose why will with within without would you your yours
    explain describe mean means work works""".split()  # noqa: SIM905 - words read better as words
)


@lru_cache(16_384)
def split_identifier(name: str) -> tuple[str, ...]:
    """`parseHTTPHeader_v2` → `("parse", "HTTP", "Header", "v2")`."""
    return tuple(part for part in _BOUNDARY.split(name) if part)


def compound_identifiers(text: str) -> list[str]:
    """Every snake_case or camelCase identifier of the text, in order, repeats included."""
    return _COMPOUND.findall(text)


def camel_parts(compounds: list[str]) -> list[str]:
    """The parts of those identifiers that a split on punctuation would not find."""
    return [part for name in compounds if not name.islower() for part in split_identifier(name)]


def spoken(name: str) -> str:
    """A qualified name or a path as words, for matching: `Flask.url_for` → `Flask url for`."""
    return " ".join(part for piece in re.split(r"[^A-Za-z0-9_]+", name) for part in split_identifier(piece))


def content_words(text: str) -> list[str]:
    """The words of a question that carry meaning, in order, identifiers whole, stop words left out."""
    words = (match.group().replace("’", "'").removesuffix("'s") for match in _WORD.finditer(text))
    return [word for word in words if word.lower() not in STOPWORDS and (len(word) > 1 or word.isdigit())]


def mentioned_paths(text: str) -> list[str]:
    """What reads like a file path or a file name."""
    return _PATH.findall(text)

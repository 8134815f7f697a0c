"""What a user is warned of when something is saved that will not work as things are; it is saved all the same."""

from collections.abc import Collection
from difflib import get_close_matches

from pydantic import BaseModel

MAX_NEAR = 3


class Warning(BaseModel):  # noqa: A001  # what it is called on the wire; nothing here raises Python's
    """Something that will not work as things are; where it stands in the body."""

    pointer: str
    message: str


def token(part: object) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The names that are nearest to one that is not known, to put behind it; empty if none is near."""
    lower = {other.lower(): other for other in known}
    near = [lower[match] for match in get_close_matches(name.lower(), lower, n=MAX_NEAR)]
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""

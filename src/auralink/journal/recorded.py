"""Answers as the journal keeps them: what was handed to an engine is handed to it again, errors included."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from auralink.core.errors import AuralinkError

RESULT, ERROR = "result", "error"
OF_THE_CLASS = ("code", "status", "title")
"""What a class says and not the error itself."""


@dataclass(frozen=True)
class Recorded:
    """An answer out of the journal."""

    answer: Mapping[str, Any]

    def result(self) -> Any:
        """The answer that was given.

        Raises:
            AuralinkError: the answer was an error; the same.
        """
        if ERROR in self.answer:
            raise error_of(self.answer[ERROR])
        return self.answer[RESULT]

    @property
    def is_error(self) -> bool:
        return ERROR in self.answer


def result_text(result: Any) -> str:
    """A result as the journal's JSON."""
    return _text({RESULT: result})


def error_text(error: AuralinkError) -> str:
    """An error as the journal's JSON: what its class says, and what it carries itself."""
    carried = {
        name: value for name, value in vars(error).items() if isinstance(value, str | int | float | bool | dict | list | None)
    }
    kept = {**carried, **{name: getattr(error, name) for name in OF_THE_CLASS}}
    return _text({ERROR: kept})


def _text(answer: Mapping[str, Any]) -> str:
    """JSON text; what orjson has no form for the standard library has."""
    try:
        return orjson.dumps(answer, default=str).decode()
    except TypeError:
        return json.dumps(answer, default=str)


def error_of(kept: Mapping[str, Any]) -> AuralinkError:
    """The error again, of its own class where that still exists; a code alone does not name one, since domains share some."""
    said = [kept[name] for name in OF_THE_CLASS]
    known = next((cls for cls in _classes(AuralinkError) if [getattr(cls, name) for name in OF_THE_CLASS] == said), None)
    error_class = known or _class_of(kept)
    error = error_class.__new__(error_class, kept["message"])
    Exception.__init__(error, kept["message"])
    vars(error).update({name: value for name, value in kept.items() if name not in OF_THE_CLASS})
    return error


def _class_of(kept: Mapping[str, Any]) -> type[AuralinkError]:
    """A class for an error whose own no longer exists."""

    class RecordedError(AuralinkError):
        code, status, title = kept["code"], kept["status"], kept["title"]

    return RecordedError


def _classes(cls: type[AuralinkError]) -> Iterator[type[AuralinkError]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _classes(sub)

"""Values of Postgres as JSON: from its text format, by the type's OID, without loss.

Numbers that JSON readers would round (numeric, bigint beyond 2**53) and times are strings; times are ISO 8601. What has no
counterpart in JSON (ranges, geometry, composites, intervals, …) stays the text that Postgres writes.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
from psycopg import postgres

from auralink.servers.database.errors import StatementRefused

MAX_SAFE_INTEGER = 2**53 - 1
_ARRAYS = {info.array_oid: info.oid for info in postgres.types if info.array_oid and info.oid != info.array_oid}
_ELEMENT = re.compile(r'[{},]|"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)


def type_name(oid: int) -> str | None:
    """The name of a type that comes with Postgres, such as `int4` or `text[]`; None for others."""
    if (element := _ARRAYS.get(oid)) is not None:
        return f"{type_name(element)}[]"
    info = postgres.types.get(oid)
    return info.name if info else None


def to_json(text: str, oid: int) -> Any:
    """The JSON value for a value in text format."""
    if (element := _ARRAYS.get(oid)) is not None:
        return _array(text, element)
    convert = _CONVERTERS.get(oid)
    return convert(text) if convert else text


def parameter(value: Any) -> bytes | None:
    """A JSON value as a parameter in text format: a list is an array, an object is JSON. Its type is the server's to infer.

    Raises:
        StatementRefused: it contains NUL, which would end it early.
    """
    if value is None:
        return None
    text = _array_literal(value) if isinstance(value, list) else _scalar(value)
    if "\0" in text:
        raise StatementRefused("a parameter contains the character NUL, which Postgres cannot hold; leave it out")
    return text.encode()


def _integer(text: str) -> int | str:
    value = int(text)
    return value if abs(value) <= MAX_SAFE_INTEGER else text


def _float(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _time(text: str) -> str:
    """`2024-01-01 10:00:00+00` as `2024-01-01T10:00:00+00:00`; infinity and years before Christ as they are."""
    iso = re.fullmatch(r"(\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(?:([+-]\d\d)(:\d\d)?)?", text)
    if iso is None:
        return text
    date, time, hours, minutes = iso.groups()
    return f"{date}T{time}{hours + (minutes or ':00') if hours else ''}"


_CONVERTERS: dict[int, Callable[[str], Any]] = {
    postgres.types["bool"].oid: lambda text: text == "t",
    **{postgres.types[name].oid: _integer for name in ("int2", "int4", "int8", "oid")},
    **{postgres.types[name].oid: _float for name in ("float4", "float8")},
    **{postgres.types[name].oid: _json for name in ("json", "jsonb")},
    **{postgres.types[name].oid: _time for name in ("timestamp", "timestamptz")},
}


def _array(text: str, element: int) -> Any:
    """An array literal (documentation §8.15.6) as nested lists; a `[1:3]=` before it is left out."""
    start = text.find("{")
    return _items(_ELEMENT.finditer(text, start + 1), element) if start >= 0 else text


def _items(tokens: Iterator[re.Match[str]], element: int) -> list[Any]:
    items: list[Any] = []
    for token in tokens:
        if token[0] == "{":
            items.append(_items(tokens, element))
        elif token[0] == "}":
            break
        elif token[1] is not None:
            items.append(to_json(re.sub(r"\\(.)", r"\1", token[1], flags=re.DOTALL), element))
        elif token[2] is not None:
            items.append(None if token[2] == "NULL" else to_json(token[2], element))
    return items


def _array_literal(values: Sequence[Any]) -> str:
    return "{" + ",".join(_array_item(value) for value in values) + "}"


def _array_item(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _array_literal(value)
    escaped = _scalar(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()

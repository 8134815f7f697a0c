"""Rows that users change: JSON columns bound as JSON, and the statement that changes some columns of one row."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, LiteralString

import orjson
from psycopg import sql
from psycopg.types.json import Json


def adapted(values: Mapping[str, Any], json_columns: Collection[str]) -> dict[str, Any]:
    """The values as they are bound; null stays null."""
    return {name: Json(value, _dumps) if name in json_columns and value is not None else value for name, value in values.items()}


def change_of(table: LiteralString, names: Iterable[str], returning: LiteralString, *, versioned: bool = False) -> sql.Composed:
    """`UPDATE auralink.<table>` of the row `%(id)s`: sets the named columns to the values of these names and the time of the change,
    with `versioned` raises the version, and returns `returning`."""
    sets: list[sql.Composable] = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names]
    sets += [sql.SQL("version = version + 1")] if versioned else []
    return sql.SQL("UPDATE auralink.{} SET {} WHERE id = %(id)s RETURNING {}").format(
        sql.Identifier(table), sql.SQL(", ").join([*sets, sql.SQL("updated_at = now()")]), sql.SQL(returning)
    )


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=str)

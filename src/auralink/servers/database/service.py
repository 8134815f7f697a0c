"""What can be done with a user's database. Every call has a fresh session of its own, which nobody uses again."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from auralink.servers.database import catalogue
from auralink.servers.database.access import Access, CheckDsn
from auralink.servers.database.errors import ReadOnly
from auralink.servers.database.schemas import (
    Applied,
    Documents,
    Extensions,
    Migrations,
    QueryResult,
    Schemas,
    Table,
    Tables,
)
from auralink.servers.database.session import Limits, Session, within
from auralink.servers.database.statements import check_migration, check_query

T = TypeVar("T")

CATALOGUE_LIMITS = Limits(rows=20_000, result_bytes=4 * 1024 * 1024)
MAX_TABLES = 500
"""Tables that one list shows."""


class Databases:
    """The operations on the database of an `Access`.

    Args:
        check: judges a DSN and pins its address.
        read_only: whether every access may only read, whatever its policy says.
        limits: of `execute_sql`.
    """

    def __init__(self, check: CheckDsn, *, read_only: bool = True, limits: Limits | None = None) -> None:
        self.read_only = read_only
        self._check = check
        self._limits = limits or Limits()

    async def execute(self, access: Access, query: str, parameters: Sequence[Any] = ()) -> QueryResult:
        """Runs one statement; it is committed if the access may write.

        Raises:
            StatementRefused, ReadOnly: it is not sent.
            StatementFailed, StatementTimedOut, ResultTooLarge, DatabaseUnreachable: it did not succeed; nothing was changed.
        """
        read_only = self._may_only_read(access)
        statement = check_query(query, read_only=read_only)

        async def work(session: Session) -> QueryResult:
            result = await session.query(statement, parameters)
            return {
                "columns": cast(Any, result.columns),
                "rows": result.rows,
                "row_count": len(result.rows),
                "truncated": result.truncated,
                "command": result.command,
            }

        return await within(access, self._check, self._limits, work, read_only=read_only)

    async def apply_migration(self, access: Access, name: str, query: str) -> Applied:
        """Runs the statements of a migration and records it where Supabase does, all in one transaction.

        Raises:
            ReadOnly: the access may only read. And as `execute`.
        """
        if self._may_only_read(access):
            raise ReadOnly(
                "migrations write, and this connection may only read; its owner can allow writing with the connection's "
                'policy {"read_only": false}'
            )
        statements = check_migration(query)

        async def work(session: Session) -> Applied:
            for statement in [*statements, *catalogue.PREPARE_MIGRATIONS]:
                await session.query(statement)
            recorded = await session.query(catalogue.RECORD_MIGRATION, [name, statements])
            return {"success": True, "version": str(recorded.rows[0]["version"])}

        return await within(access, self._check, replace(self._limits, seconds=60), work, read_only=False)

    async def list_schemas(self, access: Access) -> Schemas:
        """The schemas that the role may use, without those of the system."""
        return {"schemas": cast(Any, await self._read(access, catalogue.LIST_SCHEMAS))}

    async def list_tables(self, access: Access, schemas: Sequence[str], *, verbose: bool) -> Tables:
        """The tables and views that the role may read; with their columns and keys if `verbose`."""

        async def work(session: Session) -> Tables:
            found = (await session.query(catalogue.LIST_TABLES, [list(schemas)])).rows
            tables = found[:MAX_TABLES]
            ids = [table["id"] for table in tables]
            columns = (await session.query(catalogue.LIST_COLUMNS, [ids])).rows if verbose else []
            keys = (await session.query(catalogue.LIST_KEYS, [ids])).rows if verbose else []
            shown = [_table(table, columns, keys, verbose=verbose) for table in tables]
            return {"tables": shown, "truncated": len(found) > MAX_TABLES}

        return await self._catalogue(access, work)

    async def list_extensions(self, access: Access) -> Extensions:
        """The extensions of the server, installed ones first."""
        return {"extensions": cast(Any, await self._read(access, catalogue.LIST_EXTENSIONS))}

    async def list_migrations(self, access: Access) -> Migrations:
        """The migrations that Supabase, its CLI or `apply_migration` recorded; none where there is no such table."""

        async def work(session: Session) -> Migrations:
            exists = (await session.query(catalogue.HAS_MIGRATIONS)).rows[0]["yes"]
            rows = (await session.query(catalogue.LIST_MIGRATIONS)).rows if exists else []
            return {"migrations": cast(Any, rows)}

        return await self._catalogue(access, work)

    async def search_docs(self, access: Access, query: str, limit: int) -> Documents:
        """What the database says of itself: comments on tables and columns first, then its functions, types and settings."""
        return {"results": cast(Any, await self._read(access, catalogue.SEARCH_DOCS, [query, limit]))}

    async def inspect_role(self, access: Access) -> list[str]:
        """Warnings about a role that could do more than it needs; empty for a role that can only read tables."""
        row = (await self._read(access, catalogue.INSPECT_ROLE))[0]
        return list(_warnings(row))

    def _may_only_read(self, access: Access) -> bool:
        return self.read_only or access.read_only

    async def _read(self, access: Access, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        async def work(session: Session) -> list[dict[str, Any]]:
            return (await session.query(query, parameters)).rows

        return await self._catalogue(access, work)

    async def _catalogue(self, access: Access, work: Callable[[Session], Awaitable[T]]) -> T:
        return await within(access, self._check, CATALOGUE_LIMITS, work, read_only=True)


def _table(row: dict[str, Any], columns: list[dict[str, Any]], keys: list[dict[str, Any]], *, verbose: bool) -> Table:
    table = {key: value for key, value in row.items() if key != "id" and (key != "comment" or value is not None)}
    if verbose:
        own = [key for key in keys if key["table_id"] == row["id"]]
        foreign = [{name: key[name] for name in ("name", "source", "target")} for key in own if not key["is_primary"]]
        table["columns"] = [_column(column) for column in columns if column["table_id"] == row["id"]]
        table["primary_keys"] = [key["column"] for key in own if key["is_primary"]]
        table |= {"foreign_key_constraints": foreign} if foreign else {}
    return cast(Table, table)


def _column(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "table_id" and value is not None}


_ATTRIBUTES = {
    "rolsuper": "is a superuser: it can read and write files of the server and run programs there",
    "rolbypassrls": "bypasses row level security",
    "rolcreaterole": "may create and change roles",
    "rolcreatedb": "may create databases",
    "rolreplication": "may replicate, which reads everything",
}


def _warnings(row: dict[str, Any]) -> "list[str]":
    name = row["rolname"]
    advice = "give AuraLink a role with SELECT on what it needs and nothing else"
    warnings = [f"the role {name!r} {text}; {advice}" for attribute, text in _ATTRIBUTES.items() if row[attribute]]
    if row["powerful"] and not row["rolsuper"]:
        warnings.append(f"the role {name!r} is a member of {', '.join(row['powerful'])}; {advice}")
    if row["writable"]:
        warnings.append(
            f"the role {name!r} may write to {row['writable']} tables; AuraLink reads in READ ONLY transactions, "
            "a role that can only read is safer still"
        )
    if row["reaching"]:
        warnings.append(
            f"the database has {', '.join(row['reaching'])} installed, with which SQL can reach files or other systems"
        )
    return warnings

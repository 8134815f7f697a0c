"""REST operations on a database as tool calls: for the built-in server, and for the hosted Supabase server.

The hosted server's tools, arguments and answers are those of github.com/supabase-community/supabase-mcp (2026). Where a
connection is not bound to one project, it wants `project_id`. Its `execute_sql` takes no parameters and answers with a text around
the JSON of the rows, fenced by `<untrusted-data-UUID>`; its `search_docs` takes GraphQL.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from auralink.core.errors import InvalidRequest

TOOLS: Mapping[str, str] = {
    "query": "execute_sql",
    "tables": "list_tables",
    "extensions": "list_extensions",
    "migrations": "list_migrations",
    "apply_migration": "apply_migration",
    "search_docs": "search_docs",
    "schemas": "list_schemas",
}
"""The tool behind each operation. The hosted server has no `list_schemas`."""

_FENCED = re.compile(r"<untrusted-data-([0-9a-f-]{36})>\n(.*)\n</untrusted-data-\1>", re.DOTALL)


def to_call(operation: str, arguments: Mapping[str, Any], *, built_in: bool) -> tuple[str, dict[str, Any]]:
    """The tool and its arguments for a REST operation.

    Raises:
        KeyError: there is no such operation.
        InvalidRequest: the hosted server cannot do what is asked.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    if built_in:
        given.pop("project_id", None)
        return TOOLS[operation], given
    if operation == "schemas":
        raise InvalidRequest("the hosted Supabase server cannot list schemas; query information_schema.schemata instead")
    if operation == "query" and given.pop("parameters", None):
        raise InvalidRequest("the hosted Supabase server takes no parameters; write the values into the query, quoted")
    if operation == "search_docs":
        text, limit = orjson.dumps(given["query"]).decode(), int(given.get("limit", 10))
        return TOOLS[operation], {
            "graphql_query": f"{{ searchDocs(query: {text}, limit: {limit}) {{ nodes {{ title href content }} }} }}"
        }
    return TOOLS[operation], given


def from_result(operation: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The REST body for a `CallToolResult` (as JSON) that is no error, of either server."""
    value = _value(result)
    if operation == "query" and "rows" not in value:
        return _query_body(value)
    if operation == "search_docs" and "results" not in value:
        nodes = ((value.get("result") or {}).get("searchDocs") or {}).get("nodes") or []
        return {"results": [{"kind": "page", "title": n["title"], "href": n["href"], "content": n["content"]} for n in nodes]}
    return value


def _value(result: Mapping[str, Any]) -> dict[str, Any]:
    structured = result.get("structuredContent")
    if isinstance(structured, dict):
        return structured
    text = "\n".join(block["text"] for block in result.get("content", ()) if block.get("type") == "text")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"result": text}
    return value if isinstance(value, dict) else {"result": value}


def _query_body(value: Mapping[str, Any]) -> dict[str, Any]:
    """Rows out of the fenced text; they name no types, and the hosted server has no caps of its own."""
    fenced = _FENCED.search(str(value.get("result", "")))
    rows = orjson.loads(fenced[2]) if fenced else []
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [{"name": name, "type": None} for name in names]
    return {"columns": columns, "rows": rows, "row_count": len(rows), "truncated": False, "command": ""}

"""What may be sent to a user's database, judged by the text before it is sent.

This is the outer fence, there to answer quickly and helpfully. It is not what safety rests on: that is the role of the DSN, a
transaction that Postgres keeps READ ONLY, the extended protocol (one statement per message), the deadline with its cancel, the
caps, and a connection that nobody uses twice.

Names are looked for in the whole text, string literals and comments included, so that no trick of quoting hides one.
"""

import re
from dataclasses import dataclass

from auralink.servers.database.errors import ReadOnly, StatementRefused

READING = frozenset({"select", "with", "values", "table", "explain", "show"})
WRITING = READING | {
    "insert", "update", "delete", "merge", "create", "alter", "drop", "truncate", "comment", "grant", "revoke", "refresh",
    "analyze", "reindex", "cluster",
}  # fmt: skip
NOT_IN_MIGRATIONS = frozenset({
    "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "execute", "deallocate", "copy",
    "load", "listen", "unlisten", "notify", "discard", "vacuum", "checkpoint", "lock", "declare", "fetch", "move", "close",
})  # fmt: skip

_DANGEROUS = (
    r"pg_read_\w+", r"pg_ls_\w+", r"pg_stat_file", r"pg_file_\w+", r"pg_logdir_ls", r"pg_current_logfile",  # files of the server
    r"lo_(?:import|export|creat|create|open|put|get|unlink|from_bytea|truncate|truncate64)", r"lowrite",
    r"loread",  # large objects, which older servers let a READ ONLY transaction write
    r"dblink\w*", r"postgres_fdw_\w+", r"http_(?:get|post|put|patch|delete|head)", r"pg_notify",  # out of the database
    r"pg_sleep\w*", r"pg_advisory_\w+", r"pg_try_advisory_\w+",  # holding things up
    r"set_config", r"pg_terminate_backend", r"pg_cancel_backend", r"pg_reload_conf", r"pg_rotate_logfile", r"pg_promote",
    r"pg_switch_wal", r"pg_wal_replay_\w+", r"pg_backup_\w+", r"pg_start_backup", r"pg_stop_backup", r"pg_create_\w+",
    r"pg_drop_\w+", r"pg_copy_\w+_slot", r"pg_logical_\w+", r"pg_replication_\w+", r"pg_sync_\w+", r"pg_stat_reset\w*",
    r"pg_import_system_collations", r"pg_export_snapshot", r"pg_restore_\w+", r"pg_clear_\w+", r"pg_log_\w+",
    r"query_to_xml\w*", r"cursor_to_xml\w*", r"ts_stat", r"ts_rewrite", r"crosstab\w*", r"connectby",
    r"xpath_table",  # text that is run as SQL
)  # fmt: skip
_NAMES = re.compile(rf"(?<![\w$])(?:{'|'.join(_DANGEROUS)})(?![\w$])", re.IGNORECASE)
_UNICODE_IDENTIFIER = re.compile(r'(?<![\w$])u&"', re.IGNORECASE)

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n\r]*)
  | (?P<comment>/\*)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
  | (?P<string>(?:[uU]&|[nNbBxX])?'(?:[^']|'')*(?:'|\Z))
  | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
  | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<number>\d[\w.]*)
  | (?P<end>;)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a text and its first word, in lower case."""

    text: str
    keyword: str


def split(text: str) -> list[Statement]:
    """The statements of a text, as Postgres's lexer separates them; empty ones are left out."""
    statements: list[Statement] = []
    start = position = 0
    keyword = ""
    while position < len(text):
        token = _TOKEN.match(text, position)
        assert token is not None
        kind = token.lastgroup if token.lastgroup != "tag" else "dollar"
        position = _end_of(text, token, kind)
        if kind == "end":
            _append(statements, text[start : token.start()], keyword)
            start, keyword = position, ""
        elif not keyword and kind not in {"space", "comment"} and token[0] != "(":
            keyword = token[0].lower() if kind == "word" else token[0]
    _append(statements, text[start:], keyword)
    return statements


def check_query(text: str, *, read_only: bool) -> str:
    """The one statement of `text`, if it may be sent.

    Raises:
        StatementRefused: not exactly one statement, or one that is never allowed.
        ReadOnly: it writes and the connection may only read.
    """
    statements = split(text)
    if len(statements) != 1:
        raise StatementRefused(f"the query holds {len(statements)} statements; send exactly one per call")
    statement = statements[0]
    if statement.keyword not in WRITING:
        raise StatementRefused(
            f"a statement that begins with {statement.keyword[:30]!r} is not allowed; allowed are SELECT, WITH, VALUES, TABLE, "
            "EXPLAIN and SHOW, and on a connection that may write also INSERT, UPDATE, DELETE, MERGE and DDL"
        )
    if read_only and statement.keyword not in READING:
        raise ReadOnly(
            f"{statement.keyword.upper()} writes, and this connection may only read; "
            'its owner can allow writing with the connection\'s policy {"read_only": false}'
        )
    check_names(statement.text)
    return statement.text


def check_migration(text: str) -> list[str]:
    """The statements of a migration, if each may be sent.

    Raises:
        StatementRefused: there is none, or one that would leave the migration's transaction or the database.
    """
    statements = split(text)
    if not statements:
        raise StatementRefused("the migration is empty; send at least one statement")
    for number, statement in enumerate(statements, start=1):
        if statement.keyword in NOT_IN_MIGRATIONS:
            raise StatementRefused(
                f"statement {number} of the migration is {statement.keyword.upper()}, which is not allowed: a migration is one "
                "transaction already, and data comes in by INSERT"
            )
    check_names(text)
    return [statement.text for statement in statements]


def check_names(text: str) -> None:
    """Refuses text that names a function that reaches out of the database, or that could spell one in escapes.

    Raises:
        StatementRefused: naming the function.
    """
    if _UNICODE_IDENTIFIER.search(text):
        raise StatementRefused('identifiers in Unicode escapes (U&"…") are not allowed; write the name itself')
    if found := _NAMES.search(text):
        raise StatementRefused(
            f"{found[0]} is not allowed here, not even in a string or a comment: it reaches beyond the data (files, other "
            "servers, sessions, settings, locks) or runs text as SQL"
        )


def _end_of(text: str, token: re.Match[str], kind: str | None) -> int:
    """Where a token ends; comments nest and dollar quotes end at their own tag. What is not closed ends with the text."""
    if kind == "dollar":
        closing = text.find(token["dollar"], token.end())
        return len(text) if closing < 0 else closing + len(token["dollar"])
    if kind != "comment":
        return token.end()
    depth, position = 1, token.end()
    while depth and (edge := _COMMENT_EDGE.search(text, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position if not depth else len(text)


def _append(statements: list[Statement], text: str, keyword: str) -> None:
    if keyword:
        statements.append(Statement(text.strip(), keyword))

"""Names of tools as clients see them: `<connection>__<tool>`, at most 60 characters, and the way back.

Model vendors take `[A-Za-z0-9_-]{1,64}`, and clients prepend names of their own, hence 60. A name depends only on the
connection's name and the tool's, so it never changes when another server is added. A tool name that is too long or has other
characters is shortened and ends in eight hex digits of its SHA-256, which keeps names apart.
"""

import hashlib
import re
from collections.abc import Collection

SEPARATOR = "__"
MAX_LENGTH = 60
MAX_CONNECTION_NAME = 31
HASH_LENGTH = 8
PLAIN = re.compile(r"[A-Za-z0-9_-]+")
CONNECTION_NAME = re.compile(r"(?!.*__)[a-z0-9](?:[a-z0-9_-]{0,29}[a-z0-9-])?")


def is_connection_name(name: str) -> bool:
    """Whether a name can stand before the separator: lower case, no double underscore, none at the end."""
    return CONNECTION_NAME.fullmatch(name) is not None


def connection_name_from(text: str) -> str:
    """A connection name made from any text, e.g. a server type."""
    name = re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_").lstrip("_-")
    return name[:MAX_CONNECTION_NAME].rstrip("_") or "server"


def public_name(connection: str, tool: str) -> str:
    """The name under which clients see a tool of a connection."""
    room = MAX_LENGTH - len(connection) - len(SEPARATOR)
    if len(tool) <= room and PLAIN.fullmatch(tool) and not _looks_shortened(tool):
        return f"{connection}{SEPARATOR}{tool}"
    digest = hashlib.sha256(tool.encode()).hexdigest()[:HASH_LENGTH]
    kept = re.sub(r"[^A-Za-z0-9_-]", "_", tool)[: room - HASH_LENGTH - 1]
    return f"{connection}{SEPARATOR}{kept}-{digest}"


def split(name: str) -> tuple[str, str] | None:
    """Connection and (possibly shortened) tool part of a public name; None if it is not one."""
    connection, separator, tool = name.partition(SEPARATOR)
    return (connection, tool) if separator and connection and tool else None


def own_name(connection: str, part: str, names: Collection[str]) -> str | None:
    """The own name, among `names`, of the tool or prompt that `part` of a public name stands for; None if there is none."""
    if part in names:
        return part
    wanted = f"{connection}{SEPARATOR}{part}"
    return next((name for name in names if public_name(connection, name) == wanted), None)


def _looks_shortened(tool: str) -> bool:
    """A tool whose own name ends like a shortened one is given a hash too, so that the two can never be the same."""
    return re.search(r"-[0-9a-f]{8}$", tool) is not None

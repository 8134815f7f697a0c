"""Errors of the MCP gateway that are not the upstream's fault."""

from auralink.core.errors import Conflict, Forbidden, InvalidRequest, NotFound


class UnknownServer(NotFound):
    """No server of that type is offered here."""

    code = "unknown_server"
    title = "Unknown MCP server"


class ConnectionNotFound(NotFound):
    """The user has no such connection (or it is another user's, which looks the same)."""

    code = "connection_not_found"
    title = "Connection not found"


class ToolNotFound(NotFound):
    """The server has no such tool, or the connection does not show it."""

    code = "tool_not_found"
    title = "Tool not found"


class ToolDenied(Forbidden):
    """The connection's policy or the operator's allow-list forbids the tool."""

    code = "tool_denied"
    title = "Tool denied by policy"


class ConnectionNameTaken(Conflict):
    """The user has an open connection of that name."""

    code = "connection_name_taken"
    title = "Connection name taken"


class ServerNameTaken(Conflict):
    """The registry has a server of that name."""

    code = "server_name_taken"
    title = "Server name taken"


class ServerInUse(Conflict):
    """The registry entry belongs to the configuration file, or connections still use it."""

    code = "server_in_use"
    title = "Server in use"


class BadCredentials(InvalidRequest):
    """The credentials given are not of the form that the server needs."""

    code = "bad_credentials"
    title = "Bad credentials"

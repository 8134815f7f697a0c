"""What each MCP method means at the gateway. The same for both eras; era-specific fields are added around it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mcp.shared.inbound import MCP_PARAM_HEADER_PREFIX, validate_mcp_param_headers
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

from auralink import __version__
from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.core.errors import AuralinkError
from auralink.mcp.downstream import finding
from auralink.mcp.downstream.errors import RpcError, rpc_error_of, tool_result_of
from auralink.mcp.downstream.own_tools import CONNECTION as OWN
from auralink.mcp.downstream.own_tools import OwnTools
from auralink.mcp.federation import URI_PREFIX, Federation, Listing, View
from auralink.mcp.peer import LOG_LEVELS, Peer
from auralink.mcp.recording import audited
from auralink.mcp.service import Gateway
from auralink.mcp.upstream import shapes
from auralink.mcp.upstream.session import LIST_METHODS, Kind
from auralink.mcp.watches import Watches

SOURCE = "mcp"
SERVER_INFO = {"name": "auralink", "title": "AuraLink", "version": __version__}
CAPABILITIES: dict[str, Any] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}
INSTRUCTIONS = (
    "All MCP servers that you have connected, as one. Tools and prompts are named <connection>__<name>, resources "
    "auralink://<connection>/<uri>. A list's _meta says which servers are missing and why."
)
RESOURCE_LINK = "resource_link"
PARAM_HEADER = MCP_PARAM_HEADER_PREFIX.lower()
DEGRADED_META = "auralink/degraded"
KIND_OF_METHOD: Mapping[str, Kind] = {method: kind for kind, method in LIST_METHODS.items()}
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client, ready to be carried out."""

    principal: Principal
    view: View
    method: str
    params: Mapping[str, Any]
    peer: Peer
    headers: Mapping[str, str] | None = None
    """Of a client of 2026-07-28, which repeats parameters in them."""

    def text(self, name: str) -> str:
        """A parameter that must be a string. Raises `RpcError`."""
        value = self.params.get(name)
        if not isinstance(value, str):
            raise RpcError(INVALID_PARAMS, f"{self.method} needs the parameter {name!r}, a string")
        return value


class Methods:
    """Carries requests out against the federation."""

    def __init__(
        self, gateway: Gateway, federation: Federation, watches: Watches, audit: GroupCommit, own: OwnTools | None = None
    ) -> None:
        """`own` are tools for runs."""
        self._gateway = gateway
        self._own = own
        self._audit = audit
        self._federation = federation
        self._watches = watches
        self._handlers: Mapping[str, Callable[[Request], Awaitable[Result]]] = {
            "ping": _pong,
            "tools/call": self._call_tool,
            "prompts/get": self._get_prompt,
            "resources/read": self._read_resource,
            "resources/subscribe": self._subscription,
            "resources/unsubscribe": self._subscription,
            "completion/complete": self._complete,
            "logging/setLevel": self._set_level,
            **dict.fromkeys(KIND_OF_METHOD, self._list),
        }

    async def carry_out(self, request: Request) -> Result:
        """The result of a request.

        Raises:
            RpcError: the request is answered with an error.
        """
        handler = self._handlers.get(request.method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, f"there is no method {request.method!r} here")
        try:
            return await handler(request)
        except AuralinkError as error:
            raise rpc_error_of(error) from error

    async def describe(self, principal: Principal, view: View) -> Result:
        """Capabilities, instructions and server info: the upstream's own for a view of one connection. Raises `RpcError`."""
        if not view.connection:
            return {"capabilities": CAPABILITIES, "instructions": INSTRUCTIONS, "serverInfo": SERVER_INFO}
        try:
            described = partial(self._describe_connection, principal, view)
            return await self._gateway.remember(principal, "initialize", {"view": _shown(view)}, described)
        except AuralinkError as error:
            raise rpc_error_of(error) from error

    async def _describe_connection(self, principal: Principal, view: View) -> Result:
        [record] = await self._federation.records(principal, view)
        session = await self._federation.session(principal, record)
        described: Result = {"capabilities": session.capabilities, "serverInfo": session.server_info or SERVER_INFO}
        return {**described, "instructions": session.instructions} if session.instructions else described

    async def _list(self, request: Request) -> Result:
        asked = {"view": _shown(request.view), "params": {n: value for n, value in request.params.items() if n != "_meta"}}
        return await self._gateway.remember(request.principal, request.method, asked, partial(self._make_list, request))

    async def _make_list(self, request: Request) -> Result:
        kind, view = KIND_OF_METHOD[request.method], request.view
        shows_none = kind == "tools" and view.finding and not view.tools
        listing = Listing([]) if shows_none else await self._federation.listing(request.principal, kind, view)
        own = [dict(finding.DEFINITION)] if kind == "tools" and view.finding else []
        if kind == "tools":
            own += self._for_runs(request)
        result: Result = {kind: [*own, *(entry.item for entry in listing.entries)]}
        return {**result, "_meta": {DEGRADED_META: _degraded(listing)}} if listing.degraded else result

    def _for_runs(self, request: Request) -> list[Result]:
        """The gateway's own tools, where a run looks at all that its user has."""
        if self._own is None or request.principal.run is None or request.view.connection:
            return []
        named = [{**tool, "name": f"{OWN}__{tool['name']}"} for tool in self._own.definitions()]
        return [tool for tool in named if request.view.shows(tool["name"])]

    async def _call_tool(self, request: Request) -> Result:
        arguments = request.params.get("arguments") or {}
        if not isinstance(arguments, dict):
            raise RpcError(INVALID_PARAMS, "tools/call needs 'arguments' to be an object")
        if request.view.finding and request.params.get("name") == finding.NAME:
            asked = {"view": _shown(request.view), "arguments": arguments}
            return await self._gateway.remember(
                request.principal, finding.NAME, asked, partial(self._find_tools, request, arguments)
            )
        extras = {name: value for name, value in request.params.items() if name not in ("name", "arguments")}
        try:
            connection, tool = request.view.route_tool(request.text("name"))
            if self._own is not None and request.principal.run is not None and connection == OWN:
                return await self._own.call(request.principal, tool, arguments)
            if request.headers is not None and request.principal.run is None:  # a run's answers depend on no server that is asked
                await self._check_repeated(request.principal, connection, tool, arguments, request.headers)
            answer = await self._gateway.call_tool(
                request.principal, connection, tool, arguments, source=SOURCE, peer=request.peer, extras=extras
            )
        except AuralinkError as error:
            return tool_result_of(error, in_run=request.principal.run is not None)
        content = answer.result.get("content") or ()
        if request.view.connection or not any(block.get("type") == RESOURCE_LINK for block in content):
            return answer.result
        return {**answer.result, "content": [_with_public_uri(connection, block) for block in content]}

    async def _find_tools(self, request: Request, arguments: Result) -> Result:
        async with audited(self._audit, request.principal, request.method, SOURCE, tool=finding.NAME):
            listing = await self._federation.listing(request.principal, "tools", View(request.view.connection))
            result = finding.find(listing.entries, arguments)
        return {**result, "_meta": {DEGRADED_META: _degraded(listing)}} if listing.degraded else result

    async def _check_repeated(
        self, principal: Principal, connection: str, tool: str, arguments: Result, headers: Mapping[str, str]
    ) -> None:
        """Raises `RpcError` if `Mcp-Param-*` headers do not say what the arguments say, for a tool that wants them."""
        if not arguments and not any(header.startswith(PARAM_HEADER) for header in headers):
            return
        schema = await self._federation.input_schema(principal, connection, tool)
        rejection = validate_mcp_param_headers(schema, arguments, headers) if schema is not None else None
        if rejection is not None:
            raise RpcError(rejection.code, rejection.message, data=rejection.data)

    async def _subscription(self, request: Request) -> Result:
        """Subscribing of the handshake era; with a server of 2026-07-28 it is the listening that says so."""
        connection, uri = request.view.route_uri(request.text("uri"))
        [record] = await self._federation.records(request.principal, View(connection))
        session = await self._federation.session(request.principal, record)
        if shapes.mapping(session.capabilities.get("resources")).get("subscribe") is not True:
            raise RpcError(METHOD_NOT_FOUND, f"the server of connection {connection!r} does not say when a resource changes")
        still_wanted = request.method == "resources/unsubscribe" and self._watches.wants(record, uri)
        if session.modern or still_wanted:
            return {}
        return await self._relay(request, connection, {**request.params, "uri": uri})

    async def _get_prompt(self, request: Request) -> Result:
        connection, own = request.view.route(request.text("name"))
        own = await self._own_prompt(request, connection, own)
        return await self._relay(request, connection, {**request.params, "name": own})

    async def _read_resource(self, request: Request) -> Result:
        connection, uri = request.view.route_uri(request.text("uri"))
        result = await self._relay(request, connection, {**request.params, "uri": uri})
        contents = result.get("contents")
        if request.view.connection or not isinstance(contents, list):
            return result
        return {**result, "contents": [_with_public_uri(connection, part) for part in contents]}

    async def _complete(self, request: Request) -> Result:
        reference = request.params.get("ref")
        if not isinstance(reference, dict):
            raise RpcError(INVALID_PARAMS, "completion/complete needs the parameter 'ref', an object")
        if reference.get("type") == "ref/prompt":
            connection, own = request.view.route(str(reference.get("name")))
            reference = {**reference, "name": await self._own_prompt(request, connection, own)}
        else:
            connection, own = request.view.route_uri(str(reference.get("uri")))
            reference = {**reference, "uri": own}
        return await self._relay(request, connection, {**request.params, "ref": reference})

    async def _set_level(self, request: Request) -> Result:
        """For one connection its server is told, if it can be; what is shown to the client is a matter of its session."""
        if request.text("level") not in LOG_LEVELS:
            raise RpcError(INVALID_PARAMS, f"the level must be one of {', '.join(LOG_LEVELS)}")
        if not request.view.connection:
            return {}
        [record] = await self._federation.records(request.principal, request.view)
        session = await self._federation.session(request.principal, record)
        if session.modern or "logging" not in session.capabilities:
            return {}
        return await self._relay(request, request.view.connection, request.params)

    async def _own_prompt(self, request: Request, connection: str, name: str) -> str:
        """A prompt's own name where the public one is a shortened form of it."""
        if request.view.connection:
            return name
        listing = await self._federation.listing(request.principal, "prompts", View(connection))
        wanted = View().public_name
        return next((entry.own for entry in listing.entries if wanted(entry.record, entry.own) == f"{connection}__{name}"), name)

    async def _relay(self, request: Request, connection: str, params: Mapping[str, Any]) -> Result:
        return await self._gateway.relay(request.principal, connection, request.method, params, source=SOURCE, peer=request.peer)


def _shown(view: View) -> list[Any]:
    """What an address shows, as JSON."""
    return [view.connection, None if view.tools is None else sorted(view.tools), view.finding]


async def _pong(_request: Request) -> Result:
    return {}


def _with_public_uri(connection: str, item: Any) -> Any:
    """A resource's content, or a link to it, under the address at which it can be read here."""
    if not isinstance(item, dict) or not isinstance(item.get("uri"), str) or item.get("type", RESOURCE_LINK) != RESOURCE_LINK:
        return item
    return {**item, "uri": f"{URI_PREFIX}{connection}/{item['uri']}"}


def _degraded(listing: Listing) -> list[Result]:
    return [missing.model_dump(mode="json") for missing in listing.degraded]

"""Revision 2026-07-28: each POST is one self-contained request (spec: basic/transports/streamable-http).

The headers must repeat what the body says. Results carry `resultType`, cacheable ones `ttlMs` and `cacheScope`; what an upstream
calls public is private here, since it was fetched for one user.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
)
from mcp_types import HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, LOG_LEVEL_META_KEY, SERVER_INFO_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.types import Receive, Send

from auralink.auth.principal import Principal
from auralink.mcp.downstream.dialogue import Dialogues, ModernPeer
from auralink.mcp.downstream.errors import RpcError
from auralink.mcp.downstream.exchange import ClientGone, first_of
from auralink.mcp.downstream.hearing import Hearing, Hearings
from auralink.mcp.downstream.incoming import Incoming
from auralink.mcp.downstream.methods import KIND_OF_METHOD, SERVER_INFO, Methods, Request
from auralink.mcp.downstream.reply import Reply
from auralink.mcp.downstream.signed import Signer
from auralink.mcp.federation import View
from auralink.mcp.rounds import INPUT_REQUIRED
from auralink.mcp.upstream import shapes

SUBSCRIPTION_ID_META = "io.modelcontextprotocol/subscriptionId"
CACHEABLE = frozenset({*KIND_OF_METHOD, "resources/read", "server/discover"})
WITHOUT_METHOD = frozenset({"ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "initialize"})
"""Methods of the handshake era that this revision does not have."""
FLAG_OF_CHANGE = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
Body = dict[str, Any]


class ModernEra:
    """Answers POSTs of 2026-07-28."""

    def __init__(self, methods: Methods, signer: Signer, hearings: Hearings) -> None:
        self._methods = methods
        self._signer = signer
        self._hearings = hearings
        self._dialogues = Dialogues()

    async def answer(self, http: Incoming, send: Send, principal: Principal, view: View, body: Body) -> None:
        """Answers one request."""
        reply, request_id = Reply(send), body["id"]
        try:
            route = _verified(http, body)
            if body["method"] == "subscriptions/listen":
                await self._listen(reply, http.receive, principal, view, body)
                return
            result = await self._result(http, reply, principal, view, body, route)
        except RpcError as error:
            status = error.status or ERROR_CODE_HTTP_STATUS.get(error.error["code"], 200)
            await reply.finish({"jsonrpc": "2.0", "id": request_id, "error": error.error}, status)
            return
        except ClientGone:
            return
        await reply.finish({"jsonrpc": "2.0", "id": request_id, "result": _stamped(body["method"], result)})

    async def _result(
        self,
        http: Incoming,
        reply: Reply,
        principal: Principal,
        view: View,
        body: Body,
        route: InboundModernRoute,
    ) -> dict[str, Any]:
        method = body["method"]
        if method == "server/discover":
            return await self._discovery(principal, view)
        if method in WITHOUT_METHOD:
            method = f"{method} (not a method of {route.protocol_version})"
        params = dict(body["params"])
        task, peer = self._resumed(principal, params) or self._begun(principal, view, method, params, route, http.headers)
        peer.reply = reply
        try:
            done = await first_of(reply, http.receive, task, peer.asked)
        except ClientGone:
            task.cancel()
            raise
        if done is task:
            return self._with_state(principal, task.result())
        state = {"call": self._dialogues.keep(principal.user_id, task, peer)}
        peer.reply = None
        questions = dict(peer.questions)
        return {"resultType": INPUT_REQUIRED, "inputRequests": questions, "requestState": self._sign(principal, state)}

    def _begun(
        self,
        principal: Principal,
        view: View,
        method: str,
        params: Body,
        route: InboundModernRoute,
        headers: Mapping[str, str],
    ) -> tuple["asyncio.Task[dict[str, Any]]", ModernPeer]:
        capabilities = route.client_capabilities if isinstance(route.client_capabilities, Mapping) else {}
        peer = ModernPeer(capabilities, params["_meta"].get(LOG_LEVEL_META_KEY))
        request = Request(principal, view, method, params, peer, headers)
        return asyncio.create_task(self._methods.carry_out(request)), peer

    def _resumed(self, principal: Principal, params: Body) -> tuple["asyncio.Task[dict[str, Any]]", ModernPeer] | None:
        """The call that the client's answers belong to, if it waits in this process. The state of a server of this revision is
        put back into `params` instead, where the server finds it."""
        token = params.pop("requestState", None)
        if token is None:
            return None
        state = self._signer.read(principal.user_id, token) if isinstance(token, str) else None
        if not isinstance(state, dict):
            raise RpcError(INVALID_PARAMS, "the requestState is not one that you were given; make the call again without it")
        if "call" not in state:
            if state.get("upstream") is not None:
                params["requestState"] = state["upstream"]
            return None
        found = self._dialogues.take(principal.user_id, state["call"])
        if found is None:
            raise RpcError(
                INTERNAL_ERROR,
                "the call no longer waits in this process (it ended, or another process holds it); make it again",
                data={"code": "call_not_waiting", "retry": True},
            )
        found[1].answer(params.get("inputResponses") or {})
        return found

    def _with_state(self, principal: Principal, result: dict[str, Any]) -> dict[str, Any]:
        if result.get("resultType") != INPUT_REQUIRED:
            return result
        return {**result, "requestState": self._sign(principal, {"upstream": result.get("requestState")})}

    def _sign(self, principal: Principal, state: dict[str, Any]) -> str:
        return self._signer.sign(principal.user_id, state)

    async def _discovery(self, principal: Principal, view: View) -> dict[str, Any]:
        described = await self._methods.describe(principal, view)
        server_info = described.pop("serverInfo")
        return {**described, "supportedVersions": list(MODERN_PROTOCOL_VERSIONS), "_meta": {SERVER_INFO_META_KEY: server_info}}

    async def _listen(self, reply: Reply, receive: Receive, principal: Principal, view: View, body: Body) -> None:
        """A stream of announcements, until the client closes it."""
        wanted = body["params"].get("notifications")
        if not isinstance(wanted, dict):
            raise RpcError(INVALID_PARAMS, "subscriptions/listen needs the parameter 'notifications', an object")
        honoured: Body = {flag: True for flag in FLAG_OF_CHANGE.values() if wanted.get(flag) is True}
        meta = {SUBSCRIPTION_ID_META: body["id"]}
        async with self._hearings.open(principal, view) as hearing:
            if uris := shapes.strings(wanted.get("resourceSubscriptions")):
                honoured["resourceSubscriptions"] = await hearing.subscribe(uris)
            await hearing.ready()
            await reply.event(
                _notification("notifications/subscriptions/acknowledged", {"notifications": honoured, "_meta": meta})
            )
            while (heard := await self._next(reply, receive, hearing)) is not None:
                method, params = heard
                if method not in FLAG_OF_CHANGE or FLAG_OF_CHANGE[method] in honoured:
                    await reply.event(_notification(method, {**params, "_meta": meta}))
        await reply.finish({"jsonrpc": "2.0", "id": body["id"], "result": {"resultType": "complete", "_meta": meta}})

    async def _next(self, reply: Reply, receive: Receive, hearing: Hearing) -> tuple[str, Body] | None:
        getting = asyncio.ensure_future(hearing.next())
        try:
            await first_of(reply, receive, getting)
        finally:
            getting.cancel()
        return getting.result()


def _verified(http: Incoming, body: Body) -> InboundModernRoute:
    """What the envelope says, once the headers repeat it. Raises `RpcError`."""
    duplicated = find_duplicated_routing_header(http.fields)
    if duplicated is not None:
        raise RpcError(HEADER_MISMATCH, f"{duplicated} header appears more than once")
    verdict = classify_inbound_request(body, headers=http.headers)
    if isinstance(verdict, InboundLadderRejection):
        raise RpcError(verdict.code, verdict.message, data=verdict.data)
    return verdict


def _stamped(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """The result with what this revision requires of every one."""
    stamped = {"resultType": "complete", **result}
    if method in CACHEABLE and stamped["resultType"] == "complete":
        stamped = {"ttlMs": 0, **stamped, "cacheScope": "private"}
    meta = stamped.get("_meta") or {}
    if SERVER_INFO_META_KEY not in meta:
        stamped["_meta"] = {**meta, SERVER_INFO_META_KEY: SERVER_INFO}
    return stamped


def _notification(method: str, params: dict[str, Any]) -> Body:
    return {"jsonrpc": "2.0", "method": method, "params": params}

"""Multi round-trip requests (2026-07-28, basic/patterns/mrtr): a server that needs something of the client first.

A server of that revision answers `input_required` with the questions; the client asks again with the answers. For a client of
the same revision that passes through. For any other the gateway puts the questions to the client, and asks again itself.
"""

from collections.abc import Mapping
from typing import Any

from auralink.core.errors import AuralinkError
from auralink.mcp.peer import CAPABILITY_OF_REQUEST, Peer, PeerRefused, can_be_asked
from auralink.mcp.upstream.session import UpstreamSession

INPUT_REQUIRED = "input_required"
MAX_ROUNDS = 10
REFUSALS: Mapping[str, dict[str, Any]] = {"elicitation/create": {"action": "cancel"}}
"""What a client that cannot be asked would have answered, where the protocol has such an answer."""


class InputRequired(AuralinkError):
    """The server needs an answer that the client of this call cannot give."""

    code = "input_required"
    status = 422
    title = "Input required"


async def request_with_input(
    session: UpstreamSession, method: str, params: Mapping[str, Any], deadline: float, peer: Peer
) -> dict[str, Any]:
    """The server's result, with its questions answered by the peer; for a peer of 2026-07-28 the questions themselves.

    Raises:
        InputRequired: nobody can answer, or the questions do not end.
        UpstreamError: as `UpstreamSession.request`.
    """
    for _ in range(MAX_ROUNDS):
        result = await session.request(method, params, deadline, peer=peer)
        if result.get("resultType") != INPUT_REQUIRED or peer.answers_rounds:
            return result
        responses = await _ask_all(session, result.get("inputRequests") or {}, peer)
        params = {**params, "inputResponses": responses, "requestState": result.get("requestState")}
        if params["requestState"] is None:
            del params["requestState"]
    raise InputRequired(f"MCP server {session.server!r} asked for input more than {MAX_ROUNDS} times for one {method}")


async def _ask_all(session: UpstreamSession, requests: Mapping[str, Any], peer: Peer) -> dict[str, Any]:
    answers = {}
    for key, request in requests.items():
        method, params = request.get("method", ""), request.get("params") or {}
        if not can_be_asked(peer, method):
            needed = CAPABILITY_OF_REQUEST.get(method, method)
            raise InputRequired(
                f"MCP server {session.server!r} needs an answer of the user ({method}); "
                f"make the call with an MCP client that can do {needed}, at the MCP endpoint"
            )
        try:
            answers[key] = await peer.request(method, params)
        except PeerRefused as refusal:
            if method not in REFUSALS:
                raise InputRequired(f"the client did not answer {method} of {session.server!r}: {refusal.message}") from refusal
            answers[key] = REFUSALS[method]
    return answers

"""May this call be made? The operator's allow-list, the pin of the tool, then the connection's own policy: allow, ask or deny.

Where a policy says nothing, a tool that declares itself destructive is asked about; those of the built-in servers, which act on
the user's own data, are not.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from auralink.auth.principal import Principal
from auralink.core.warned import Warning, did_you_mean, token  # noqa: A004  # what it is called on the wire
from auralink.journal.approvals import Approvals, Call
from auralink.journal.steps import Step
from auralink.mcp import naming
from auralink.mcp.errors import ToolDenied
from auralink.mcp.peer import Peer, PeerRefused, can_be_asked
from auralink.mcp.pins import Pins, Tools, refuse_quarantined
from auralink.mcp.schemas import ConnectionPolicy, ConnectionRecord

Verdict = Literal["allow", "ask", "deny"]
Definition = Mapping[str, Any]
ELICITATION = "elicitation/create"
MAX_SHOWN = 1500
"""Characters of the arguments that are shown to the user who is asked."""
QUESTION_SCHEMA = {
    "type": "object",
    "properties": {
        "decision": {
            "type": "string",
            "title": "Decision",
            "enum": ["approve", "deny"],
            "description": "approve makes exactly this call, once",
        }
    },
    "required": ["decision"],
}


class Policy:
    """Decides on calls, and asks the user where that is the decision."""

    def __init__(self, pins: Pins, approvals: Approvals) -> None:
        self._pins = pins
        self._approvals = approvals

    async def check(
        self,
        principal: Principal,
        record: ConnectionRecord,
        tools: Tools,
        params: Mapping[str, Any],
        peer: Peer,
        step: Step | None = None,
    ) -> float:
        """Returns when the call may be made, with the seconds that a person took to say so. A run, whose `step` this is, waits for
        a person without holding anything.

        Raises:
            Suspended: the run waits now.
            ToolDenied, ToolQuarantined: it may not.
            ApprovalRequired: nobody could be asked on the spot.
        """
        name = params["name"]
        _check_offered(record, name)
        quarantined = await self._pins.quarantined(principal, record, tools)
        if name in quarantined:
            raise refuse_quarantined(record, name, quarantined[name])
        verdict = verdict_on(record, tools[name])
        if verdict == "deny":
            raise ToolDenied(
                f"the policy of connection {record.name!r} denies tool {name!r}; "
                f"change it with PATCH /api/v1/mcp/connections/{record.id}"
            )
        if verdict == "allow":
            return 0.0
        started = time.monotonic()
        call = Call(record.id, record.server.name, name, params["arguments"], tools[name])
        if step is not None:
            await self._ask_in_run(step, call)
        else:
            await self._ask(principal, call, peer)
        return time.monotonic() - started

    async def _ask_in_run(self, step: Step, call: Call) -> None:
        verdict = await self._approvals.of_step(step, call)
        if not verdict.approved:
            why = f": {verdict.note}" if verdict.note else ""
            raise ToolDenied(f"the user did not approve this call of tool {call.tool!r} of server {call.server!r}{why}")

    async def _ask(self, principal: Principal, call: Call, peer: Peer) -> None:
        if await self._approvals.use(principal, call):
            return
        if not can_be_asked(peer, ELICITATION):
            raise await self._approvals.require(principal, call)
        approved = await _elicit(call, peer)
        await self._approvals.note(principal, call, approved=approved)
        if not approved:
            raise ToolDenied(f"the user did not approve this call of tool {call.tool!r} of server {call.server!r}")


def verdict_on(record: ConnectionRecord, definition: Definition) -> Verdict:
    """What the connection's policy says of a tool."""
    decision = record.policy.decide(definition["name"])
    if decision != "auto":
        return decision
    destructive = (definition.get("annotations") or {}).get("destructiveHint") is True
    return "ask" if destructive and record.server.transport != "in_process" else "allow"


def unknown_tools(policy: ConnectionPolicy, tools: Collection[str], server: str) -> Iterator[Warning]:
    """A warning for each tool that a policy names and the server does not list: it may be a typo, or a tool that is to come."""
    for field in ("tools", "rate_limits"):
        for name in getattr(policy, field):
            if name not in tools:
                near = did_you_mean(name.partition(naming.SEPARATOR)[2] or name, tools)
                yield Warning(
                    pointer=f"/policy/{field}/{token(name)}",
                    message=f"server {server!r} lists no tool {name!r}{near}; this has no effect until it does",
                )


def is_offered(record: ConnectionRecord, tool: str) -> bool:
    """Whether the operator's allow-list has the tool."""
    return record.server.tools is None or tool in record.server.tools


def _check_offered(record: ConnectionRecord, tool: str) -> None:
    if not is_offered(record, tool):
        raise ToolDenied(f"the operator does not offer tool {tool!r} of server {record.server.name!r} (its allow-list lacks it)")


async def _elicit(call: Call, peer: Peer) -> bool:
    shown = str(dict(call.arguments))
    if len(shown) > MAX_SHOWN:
        shown = shown[:MAX_SHOWN] + " …"
    question = f"May {call.tool} of {call.server} be called with {shown}?"
    try:
        answer = await peer.request(ELICITATION, {"message": question, "requestedSchema": QUESTION_SCHEMA})
    except PeerRefused:
        return False
    content = answer.get("content")
    return answer.get("action") == "accept" and isinstance(content, dict) and content.get("decision") == "approve"

"""The domains of definitions, put together: in the service with what users do with them, in a worker with its clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auralink.agents.service import Agents
from auralink.agents.starting import AgentStarter
from auralink.auth.principal import Principal
from auralink.core.buckets import Buckets
from auralink.core.db import Database
from auralink.flows.executions import Executions
from auralink.flows.service import Flows
from auralink.flows.starting import FlowStarter
from auralink.mcp.federation import Federation
from auralink.runs.engine_manifest import default_root
from auralink.runs.engines import Engines
from auralink.runs.schemas import Order, Parent, RunDetail, RunKind
from auralink.runs.service import Runs
from auralink.runs.starting import Startable, Startables
from auralink.runs.tools import Starts
from auralink.schedules.service import Schedules
from auralink.teams.comparison import Comparisons
from auralink.teams.conversations import Conversations
from auralink.teams.roster import Roster
from auralink.teams.service import Teams
from auralink.teams.starting import TeamStarter
from auralink.vault.service import Vault
from auralink.webhooks.service import Webhooks
from auralink.workflows.service import Workflows
from auralink.workflows.starting import WorkflowStarter


@dataclass(frozen=True)
class Definitions:
    """What starts runs."""

    startables: Startables
    agents: Agents
    workflows: Workflows
    teams: Teams
    team_conversations: Conversations
    team_comparisons: Comparisons
    flows: Flows
    flow_executions: Executions
    schedules: Schedules
    webhooks: Webhooks
    starts: Mapping[RunKind, Starts]


@dataclass(frozen=True)
class ByName:
    """Starts runs of one kind for other runs, which know a definition by its name."""

    db: Database
    startables: Startables
    kind: RunKind

    async def start(self, principal: Principal, name: str, given: Any, *, parent: Parent, idempotency_key: str) -> RunDetail:
        """A run of the definition of that name or id; the same key gives the same run. Raises NotFound, InvalidRequest."""
        async with self.db.tenant(principal) as connection:
            definition_id = await self.startables.of(self.kind).find_id(connection, name)
            order = Order(given, idempotency_key=idempotency_key, parent=parent, at="/input")
            return await self.startables.start_in(connection, principal, self.kind, definition_id, order)


def build_startables(runs: Runs) -> Startables:
    """Every kind of definition that there is."""
    by_kind: dict[RunKind, Startable] = {
        "agent": AgentStarter(),
        "workflow": WorkflowStarter(),
        "team": TeamStarter(),
        "flow": FlowStarter(),
    }
    return Startables(runs, by_kind)


def build_definitions(db: Database, vault: Vault, federation: Federation, runs: Runs, buckets: Buckets) -> Definitions:
    """Wires the domains."""
    startables, root = build_startables(runs), default_root()
    require_engine = Engines(root).manifest
    roster = Roster(root, require_engine)
    schedules = Schedules(db, startables)
    return Definitions(
        startables=startables,
        agents=Agents(db, federation, runs, startables, require_engine),
        workflows=Workflows(db, federation, startables, require_engine),
        teams=Teams(db, federation, startables, roster),
        team_conversations=Conversations(db),
        team_comparisons=Comparisons(db, runs, roster),
        flows=Flows(db, federation, startables, schedules, require_engine),
        flow_executions=Executions(db),
        schedules=schedules,
        webhooks=Webhooks(db, vault, startables, buckets),
        starts={kind: ByName(db, startables, kind) for kind in startables.by_kind},
    )

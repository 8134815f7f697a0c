"""The domains of definitions, put together: in the service with what users do with them, in a worker with its clock."""

from dataclasses import dataclass

from auralink.agents.service import Agents
from auralink.agents.starting import AgentStarter
from auralink.core.db import Database
from auralink.mcp.federation import Federation
from auralink.runs.engine_manifest import default_root
from auralink.runs.engines import Engines
from auralink.runs.service import Runs
from auralink.runs.starting import Startables
from auralink.schedules.service import Schedules
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
    schedules: Schedules
    webhooks: Webhooks


def build_startables(runs: Runs) -> Startables:
    """Every kind of definition that there is."""
    return Startables(runs, {"agent": AgentStarter(), "workflow": WorkflowStarter()})


def build_definitions(db: Database, vault: Vault, federation: Federation, runs: Runs) -> Definitions:
    """Wires the domains."""
    startables, require_engine = build_startables(runs), Engines(default_root()).manifest
    return Definitions(
        startables=startables,
        agents=Agents(db, federation, runs, startables, require_engine),
        workflows=Workflows(db, federation, startables, require_engine),
        schedules=Schedules(db, startables),
        webhooks=Webhooks(db, vault, startables),
    )

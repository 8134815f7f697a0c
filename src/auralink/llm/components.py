"""The parts of the model domain, built and opened together. `app.py` and the tests make one of these."""

from dataclasses import dataclass

from auralink.audit.group_commit import GroupCommit
from auralink.core.breaker import BreakerSettings
from auralink.core.buckets import Buckets
from auralink.core.changes import Changes
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.journal.budgets import Budgets
from auralink.journal.limits import Limits
from auralink.journal.steps import Journal
from auralink.llm.accounts import Accounts
from auralink.llm.attempts import Attempts
from auralink.llm.catalogue.service import Models
from auralink.llm.health import HealthBoard
from auralink.llm.keys import Keys
from auralink.llm.listing import Listing
from auralink.llm.local import LocalModels
from auralink.llm.preferences import Preferences
from auralink.llm.profiles import Profiles
from auralink.llm.selection import Selection
from auralink.llm.service import ModelGateway
from auralink.llm.transport import Transport
from auralink.vault.service import Vault


@dataclass(frozen=True)
class LLM:
    """The gateway and what it stands on."""

    gateway: ModelGateway
    selection: Selection
    profiles: Profiles
    listing: Listing
    keys: Keys
    preferences: Preferences
    models: Models
    health: HealthBoard
    transport: Transport

    async def open(self) -> None:
        """Fills the catalogue, reads what was measured and gets ready to serve."""
        await self.models.open()
        await self.health.open()

    async def close(self) -> None:
        """Closes every connection to a provider."""
        await self.health.close()
        await self.transport.close()


def build_llm(
    *,
    db: Database,
    changes: Changes,
    vault: Vault,
    guard: EgressGuard,
    audit: GroupCommit,
    journal: Journal,
    accounts: Accounts,
    models: Models,
    local: LocalModels,
    limits: Limits,
    buckets: Buckets,
    calls_a_minute: int,
    breaker: BreakerSettings,
) -> LLM:
    """Wires the domain."""
    profiles, health, transport = Profiles(db, changes), HealthBoard(db), Transport(guard)
    selection = Selection(models, accounts, health, local)
    attempts = Attempts(transport=transport, vault=vault, breaker=breaker, local=local)
    gateway = ModelGateway(
        profiles=profiles,
        selection=selection,
        limits=limits,
        buckets=buckets,
        calls_a_minute=calls_a_minute,
        budgets=Budgets(db),
        attempts=attempts,
        audit=audit,
        journal=journal,
    )
    return LLM(
        gateway=gateway,
        selection=selection,
        profiles=profiles,
        listing=Listing(selection, profiles, accounts),
        keys=Keys(db, vault=vault, guard=guard, attempts=attempts, profiles=profiles),
        preferences=Preferences(db, selection, profiles, limits),
        models=models,
        health=health,
        transport=transport,
    )

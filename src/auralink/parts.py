"""The domains of the service, built together and opened in the order in which they stand on each other.

`app.py` puts HTTP around them. Nothing here decides anything.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from auralink.audit.group_commit import GroupCommit
from auralink.auth.run_tokens import PURPOSE, RunTokens
from auralink.auth.signing import RequestSigner
from auralink.auth.signing_keys import SigningKeys
from auralink.auth.tokens import TokenVerifier
from auralink.bootstrap import Foundation
from auralink.core.buckets import Buckets, MemoryBuckets, RedisBuckets
from auralink.core.changes import Changes
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.core.settings import PROJECT_ROOT, Settings
from auralink.definitions import Definitions, build_definitions
from auralink.journal.approvals import Approvals
from auralink.journal.limits import Limits
from auralink.journal.steps import Journal
from auralink.llm.accounts import Accounts, load_accounts
from auralink.llm.catalogue.config import load_catalogue_config
from auralink.llm.catalogue.service import Models
from auralink.llm.components import LLM, build_llm
from auralink.llm.local import LocalModels
from auralink.llm.scripted import Script
from auralink.mcp.components import MCP, build_mcp
from auralink.mcp.config import MCPConfig
from auralink.mcp.limits import RateLimiter
from auralink.runs.service import Runs
from auralink.servers.catalogue import build_servers
from auralink.servers.deepwiki.prose import ModelWriter
from auralink.servers.deepwiki.wiki import Wiki, Writer
from auralink.vault.service import Vault


@dataclass(frozen=True)
class Parts:
    """Everything that the service consists of."""

    db: Database
    changes: Changes
    audit: GroupCommit
    verifier: TokenVerifier
    run_tokens: RunTokens
    signer: RequestSigner
    signing_keys: SigningKeys
    buckets: Buckets
    approvals: Approvals
    limits: Limits
    calls_a_minute: Mapping[str, int]
    """What users without limits of their own may make, of `tools` and of `models`."""
    journal: Journal
    runs: Runs
    definitions: Definitions
    wiki: Wiki
    mcp: MCP
    llm: LLM

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Everything that stands on the database (which is open) is open in this block."""
        async with contextlib.AsyncExitStack() as stack:
            for part in (self.audit, self.changes, self.journal, self.llm, self.mcp):
                stack.push_async_callback(part.close)
                await part.open()
            stack.push_async_callback(self.wiki.close)
            yield

    async def close(self) -> None:
        """Lets go of what is open from the beginning."""
        await self.verifier.close()
        await self.buckets.close()


def build_parts(settings: Settings, config: MCPConfig, foundation: Foundation, accounts: Accounts | None) -> Parts:
    """Wires the domains. `accounts` are the operator's at providers of models; None: those of the environment."""
    guard, db, ring = EgressGuard(settings.allowed_networks), Database(foundation.dsn), foundation.ring
    audit, changes, vault = GroupCommit(foundation.dsn), Changes(foundation.dsn), Vault(db, ring)
    buckets = RedisBuckets(settings.redis_url) if settings.redis_url else MemoryBuckets()
    limits, approvals, journal, runs = Limits(db, changes), Approvals(db), Journal(db), Runs(db, changes)
    signer = RequestSigner(ring.derive("request signing"))
    calls = {"models": settings.default_rate_limit, "tools": config.mcp_global.rate_limit or settings.default_rate_limit}
    script = Script.load(settings.auralink_scripted_model) if settings.auralink_scripted_model else None
    llm = build_llm(
        db=db,
        changes=changes,
        vault=vault,
        guard=guard,
        audit=audit,
        journal=journal,
        accounts=load_accounts() if accounts is None else accounts,
        models=Models(db, load_catalogue_config(settings.auralink_config), scripted=script is not None),
        local=LocalModels(script),
        limits=limits,
        buckets=buckets,
        calls_a_minute=calls["models"],
        breaker=config.circuit_breaker,
    )
    wiki = build_wiki(settings, foundation.data_dir, guard, ModelWriter(llm.gateway))
    mcp = build_mcp(
        db=db,
        changes=changes,
        vault=vault,
        guard=guard,
        audit=audit,
        journal=journal,
        approvals=approvals,
        config=config,
        built_in=build_servers(db=db, guard=guard, wiki=wiki, demo_database=foundation.demo_database).in_process,
        limits=RateLimiter(calls["tools"], limits, buckets),
        signer=signer,
        public_url=public_url(settings) or f"http://127.0.0.1:{settings.auralink_port}",
        state_key=ring.derive("oauth state"),
    )
    return Parts(
        db=db,
        changes=changes,
        audit=audit,
        verifier=_verifier(settings, foundation),
        run_tokens=RunTokens(ring.derive(PURPOSE)),
        signer=signer,
        signing_keys=SigningKeys(db),
        buckets=buckets,
        approvals=approvals,
        limits=limits,
        calls_a_minute=calls,
        journal=journal,
        runs=runs,
        definitions=build_definitions(db, vault, mcp.federation, runs, buckets),
        wiki=wiki,
        mcp=mcp,
        llm=llm,
    )


def public_url(settings: Settings) -> str | None:
    """The address of the service from outside, where the operator names it."""
    return settings.auralink_url.rstrip("/") if settings.auralink_url else None


def build_wiki(settings: Settings, data_dir: Path, guard: EgressGuard, writer: Writer | None = None) -> Wiki:
    """The wiki over the operator's folders, by default this checkout and the data directory. `writer` makes prose of passages."""

    async def check_url(url: str) -> list[str]:
        return [str(address) for address in (await guard.check_git_url(url)).addresses]

    return Wiki(data_dir, settings.wiki_repo_roots or (PROJECT_ROOT, data_dir), check_url=check_url, writer=writer)


def _verifier(settings: Settings, foundation: Foundation) -> TokenVerifier:
    return TokenVerifier(
        secret=foundation.jwt_secret,
        jwks_url=settings.jwt_jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )

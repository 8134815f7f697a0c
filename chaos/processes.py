"""The API and the worker as processes that may be killed: `python -m chaos.processes api|worker <folder>`."""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from auralink.app import build_app
from auralink.auth.dependencies import Authenticated
from auralink.auth.run_tokens import PURPOSE, RunTokens
from auralink.bootstrap import Foundation
from auralink.core.changes import Changes
from auralink.core.db import Database, DatabaseUnavailable
from auralink.core.logging import configure_logging
from auralink.core.secret import Secret
from auralink.core.settings import Settings
from auralink.mcp.config import MCPConfig
from auralink.runs.engine_manifest import default_root
from auralink.runs.engines import Engines
from auralink.runs.worker import Worker, WorkerOptions, gateways_at
from auralink.serving import bound_socket
from auralink.vault.crypto import KeyRing
from chaos import teams
from chaos.points import OF_API, OF_WORKER, arm

LEASE = 2.0
HOLD = 1.0
ENGINES = Path(__file__).parent / "engines"
SCRIPT = "script.json"


def read(folder: Path) -> dict[str, Any]:
    """What the processes of one test share."""
    setup: dict[str, Any] = json.loads((folder / "setup.json").read_text())
    return setup


async def serve(folder: Path, setup: dict[str, Any]) -> None:
    """The API, with one route more, which accepts the runs of the test."""
    dsn, script = Secret(setup["dsn"]), folder / SCRIPT
    settings = Settings(_env_file=None, auralink_data_dir=folder, database_url=dsn, auralink_scripted_model=script)  # type: ignore[call-arg]
    entry = {"transport": "http", "endpoint": setup["sink"], "retry_attempts": 0, "timeout": 10}
    config = MCPConfig.model_validate({"mcp_servers": {"sink": entry}})
    foundation = Foundation(folder, dsn, Secret(setup["jwt"]), KeyRing.parse(Secret(setup["key"])))
    app = build_app(settings, config, foundation, accounts={})
    app.state.journal._lease, app.state.journal._hold_seconds = LEASE, HOLD
    _accepting(app, setup["engine"])
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none"))
    while True:
        try:
            async with app.router.lifespan_context(app):
                await server.serve(sockets=[bound_socket("127.0.0.1", setup["port"])])
                return
        except DatabaseUnavailable:
            await asyncio.sleep(0.1)


def _accepting(app: FastAPI, engine: str) -> None:
    @app.post("/api/v1/chaos/{line}")
    async def accept(line: str, request: Request, principal: Authenticated) -> dict[str, str]:
        run = await request.app.state.runs.accept(
            principal,
            kind="workflow" if engine == teams.STEPS else "team",
            definition_id=None,
            engine=engine,
            definition=teams.definition(engine),
            input=teams.task(line),
            idempotency_key=line,
        )
        return {"run_id": str(run.run_id)}


async def work(setup: dict[str, Any]) -> None:
    """The worker, with engines that are processes."""
    dsn = Secret(setup["dsn"])
    db, changes = Database(dsn, min_size=1, max_size=8), Changes(dsn)
    engines = Engines(ENGINES, Path(sys.executable)) if setup["engine"] == teams.STEPS else Engines(default_root())
    tokens = RunTokens(KeyRing.parse(Secret(setup["key"])).derive(PURPOSE))
    options = WorkerOptions([setup["engine"]], concurrency=4, lease=LEASE, reconcile_every=0.3)
    worker = Worker(db, changes, engines, tokens, gateways_at(f"http://127.0.0.1:{setup['port']}"), options)
    while True:
        with contextlib.suppress(DatabaseUnavailable):
            await db.open()
            break
        db = worker._db = Database(dsn, min_size=1, max_size=8)
        await asyncio.sleep(0.1)
    await changes.open()
    task = asyncio.create_task(worker.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await engines.close()


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    setup = read(folder)
    configure_logging("WARNING", "json")
    arm(folder, [name for name in setup["points"] if name in (OF_API if kind == "api" else OF_WORKER)])
    asyncio.run(serve(folder, setup) if kind == "api" else work(setup))


if __name__ == "__main__":
    main()

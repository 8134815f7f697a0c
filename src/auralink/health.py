"""Liveness, readiness, per-component detail and metrics."""

import asyncio
import contextlib
import time
from typing import Any

import psycopg
from fastapi import APIRouter, Request, Response

from auralink import __version__
from auralink.auth.dependencies import Admin
from auralink.core.db import Database, DatabaseUnavailable
from auralink.core.http import JSONBytes
from auralink.core.migrate import required_migrations
from auralink.core.telemetry import render_metrics
from auralink.runs import metrics as run_metrics

router = APIRouter(tags=["health"])
PATIENCE = 1.0
"""Seconds for the database: who asks for readiness asks again soon, and mostly waits no longer than that."""


@router.get("/health")
@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """The service can serve: 200, or 503 with the component that is missing."""
    components = {"database": await _database(request.app.state.db)}
    return _report(components)


@router.get("/health/detailed")
async def detailed(request: Request, _admin: Admin) -> Response:
    """Every component with its figures (admin)."""
    db: Database = request.app.state.db
    database = await _database(db)
    return _report({"database": {**database, "pool": db.stats()}})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    with contextlib.suppress(psycopg.Error, DatabaseUnavailable):  # the other figures are worth having without these
        await run_metrics.measure(request.app.state.db)
    return Response(render_metrics(request.app.state.db.stats()), media_type="text/plain; version=0.0.4")


def _report(components: dict[str, dict[str, Any]]) -> Response:
    up = all(component["status"] == "ok" for component in components.values())
    body = {"status": "ok" if up else "unavailable", "version": __version__, "components": components}
    return JSONBytes(body, status_code=200 if up else 503)


async def _database(db: Database) -> dict[str, Any]:
    """Whether the database answers, how fast, and whether its schema is this code's."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE), db.connection() as connection:
            rows = await (await connection.execute("SELECT name FROM auralink.schema_migrations")).fetchall()
    except (psycopg.Error, DatabaseUnavailable) as error:
        return {"status": "unavailable", "reason": str(error).strip()}
    except TimeoutError:
        return {"status": "unavailable", "reason": f"the database did not answer within {PATIENCE:g} s"}
    latency = round((time.perf_counter() - started) * 1000, 3)
    missing = sorted(required_migrations() - {row["name"] for row in rows})
    if missing:
        return {"status": "unavailable", "reason": f"migrations are missing: {', '.join(missing)}"}
    return {"status": "ok", "latency_ms": latency, "migrations": len(rows)}

"""Builds the worker from the same pieces as the service, and runs it as a process.

It needs the database and the two gateways' addresses, and holds no user's secret. `auralink serve` starts one beside itself, which
ends with it; `auralink worker` adds more, on any machine.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any

import structlog

from auralink.auth.run_tokens import PURPOSE, RunTokens
from auralink.bootstrap import Foundation, Progress, data_dir_of, lay_foundation
from auralink.core.changes import Changes
from auralink.core.db import Database
from auralink.core.errors import StartupError
from auralink.core.logging import configure_logging
from auralink.core.migrate import required_migrations
from auralink.core.preflight import check_isolation, check_schema
from auralink.core.settings import Settings
from auralink.definitions import build_startables
from auralink.runs.engine_manifest import default_root, find_places
from auralink.runs.engines import Engines
from auralink.runs.service import Runs
from auralink.runs.worker import Worker, WorkerOptions, gateways_at
from auralink.schedules.clock import Clock
from auralink.serving import registered

log = structlog.get_logger(__name__)

DEFAULT_CONCURRENCY = 8


def work(
    settings: Settings,
    progress: Progress,
    *,
    engines: Collection[str] = (),
    concurrency: int,
    beside: bool,
    root: Path | None = None,
) -> None:
    """Works until SIGINT or SIGTERM; with `beside`, the process of a service, until that closes our standard input.

    `engines` are those whose runs are taken; none: all that are installed under `root` (the checkout's `engines`).

    Raises:
        StartupError: it cannot start; one line that says why.
    """
    configure_logging(settings.log_level, settings.log_format)
    root = root or default_root()
    options = WorkerOptions(chosen_engines(root, engines), concurrency=concurrency)
    with contextlib.ExitStack() as stack:
        if not beside:
            stack.enter_context(registered(data_dir_of(settings), embedded_database=settings.embedded))
        foundation = lay_foundation(settings, progress, attach=beside)
        asyncio.run(_until_stopped(_work(settings, foundation, root, options), beside=beside))


def chosen_engines(root: Path, wanted: Collection[str]) -> list[str]:
    """The installed engines whose runs are taken.

    Raises:
        StartupError: one that is wanted is not installed, or none is.
    """
    installed = [place.manifest.name for place in find_places(root) if place.state() == "installed"]
    if missing := sorted(set(wanted) - set(installed)):
        raise StartupError(f"no engine {', '.join(missing)} is installed; `auralink engines list` shows what there is")
    if not installed:
        raise StartupError("no engine is installed; run `make engines`, or `auralink engines install NAME`")
    return sorted(wanted or installed)


async def _work(settings: Settings, foundation: Foundation, root: Path, options: WorkerOptions) -> None:
    db, changes, engines = Database(foundation.dsn, min_size=1, max_size=8), Changes(foundation.dsn), Engines(root)
    base_url = (settings.auralink_url or f"http://127.0.0.1:{settings.auralink_port}").rstrip("/")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        await db.open()
        async with db.connection() as connection:
            await check_schema(connection, required_migrations())
            await check_isolation(connection)
        stack.push_async_callback(changes.close)
        await changes.open()
        stack.push_async_callback(engines.close)
        await engines.open()
        tokens = RunTokens(foundation.ring.derive(PURPOSE))
        log.info("working", engines=options.engines, concurrency=options.concurrency, gateways=base_url)
        worker = Worker(db, changes, engines, tokens, gateways_at(base_url), options)
        clock = asyncio.create_task(Clock(db, build_startables(Runs(db, changes))).run(), name="clock")
        stack.callback(clock.cancel)
        await worker.run()


async def _until_stopped(work: Coroutine[Any, Any, None], *, beside: bool) -> None:
    """Runs `work`; a signal, or the end of standard input for a worker beside a service, cancels it."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    if beside:
        loop.add_reader(sys.stdin.fileno(), _end_of_input, loop, task)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _end_of_input(loop: asyncio.AbstractEventLoop, task: "asyncio.Future[None]") -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        task.cancel()

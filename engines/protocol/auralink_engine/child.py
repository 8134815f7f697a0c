"""A run's process: from the job to one `result` or `error` line, and out."""

import asyncio
import importlib
import inspect
import os
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from auralink_engine.confine import home_environment, limit_resources, seed_chance
from auralink_engine.job import Job, Lost
from auralink_engine.lines import MAX_LINE, encode
from auralink_engine.manifest import Manifest

MAX_EVENT = 256 * 1024
MAX_TRACEBACK = 16 * 1024


class Cancelled(BaseException):
    """The run was cancelled; raised in the middle of an engine that is not asynchronous."""


class Outlet:
    """Where a run's messages go."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def emit(self, kind: str, /, **data: Any) -> None:
        """Sends an event; one that is too large is left out, and that is said."""
        line = encode({"op": "event", "event": {"type": kind, "data": data}})
        if len(line) > MAX_EVENT:
            note = f"an event of type {kind} with {len(line)} bytes was left out; {MAX_EVENT} are the most"
            line = encode({"op": "event", "event": {"type": "log", "data": {"level": "warning", "message": note}}})
        self._write(line)

    def result(self, output: Any) -> None:
        """Sends the run's output."""
        line = encode({"op": "result", "output": output})
        if len(line) > MAX_LINE:
            raise ValueError(f"the run's output has {len(line)} bytes; {MAX_LINE} are the most")
        self._write(line)

    def error(self, error: BaseException, message: str | None = None) -> None:
        """Sends the run's failure."""
        name = getattr(error, "code", None) or type(error).__name__
        trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
        said = message or str(error) or type(error).__name__
        lost = isinstance(error, Lost)
        self._write(encode({"op": "error", "type": str(name), "message": said, "traceback": trace, "lost": lost}))

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def preload(manifest: Manifest) -> None:
    """Imports what takes long and needs nothing but itself."""
    for name in manifest.preload:
        importlib.import_module(name)


def load(manifest: Manifest) -> ModuleType:
    """Imports the engine and what it preloads, and warms it."""
    preload(manifest)
    module = importlib.import_module(manifest.module)
    if hasattr(module, "warm"):
        module.warm()
    return module


def perform(module: ModuleType, job: Job, outlet: Outlet) -> NoReturn:
    """Does the run and leaves without running what the framework has registered for an orderly exit."""
    status = 0
    try:
        _perform(module, job, outlet)
    except (Cancelled, asyncio.CancelledError) as error:
        outlet.error(error, "the run was cancelled")
    except MemoryError as error:
        outlet.error(error, f"the run needed more than {job.memory_mb} MiB of memory")
    except BaseException as error:  # noqa: BLE001 (the edge of the process: everything is told to the worker)
        root = _root_of(error)
        traceback.print_exception(error)
        outlet.error(root)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def prepare(job: Job, home: Path) -> None:
    """Makes this process the run's own: home, limits, chance."""
    os.environ.update(home_environment(home))
    os.chdir(home)
    seed_chance(job.origin or job.run)
    limit_resources(job)


def _perform(module: ModuleType, job: Job, outlet: Outlet) -> None:
    if not inspect.iscoroutinefunction(module.run):
        signal.signal(signal.SIGTERM, _cancel_now)
        outlet.result(module.run(job, outlet.emit))
        return
    asyncio.run(_perform_async(module, job, outlet))


async def _perform_async(module: ModuleType, job: Job, outlet: Outlet) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    outlet.result(await module.run(job, outlet.emit))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what the loop still has (idle connections, a thread pool) dies with the process


def _cancel_now(_number: int, _frame: Any) -> None:
    raise Cancelled


def _root_of(error: BaseException) -> BaseException:
    """What a group of errors is about: task groups wrap what they carry. A lost gateway explains all the rest."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    roots = [_root_of(inner) for inner in error.exceptions]
    return next((root for root in roots if isinstance(root, Lost)), roots[0])

"""Named points at which a process kills itself, once: what is hard to hit by chance."""

import os
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

from auralink.audit.group_commit import GroupCommit
from auralink.journal import step_store
from auralink.runs import store
from auralink.runs.service import Runs

Function = Callable[..., Awaitable[Any]]


def arm(folder: Path, names: list[str]) -> None:
    """Arms points in this process; each fires in one process only, of all that arm it."""
    for name in names:
        POINTS[name](folder / f"fired-{name}")


def _before_accept(flag: Path) -> None:
    store.insert_run = _dying_after(store.insert_run, flag)  # the transaction is open: nothing is committed


def _after_accept(flag: Path) -> None:
    Runs.accept = _dying_after(Runs.accept, flag)  # type: ignore[method-assign]


def _after_claim(flag: Path) -> None:
    store.claim = _dying_after(store.claim, flag, only=lambda row: row is not None)


def _after_begin(flag: Path) -> None:
    step_store.begin = _dying_after(step_store.begin, flag, only=lambda row: row["verdict"] == "begin")


def _before_done(flag: Path) -> None:
    """The effect has happened, its record is not written."""
    commit = GroupCommit.commit

    @wraps(commit)
    async def dying(self: GroupCommit, *records: Any) -> None:
        if any(record.kind == "steps" and "plain" in record.label for record in records):
            _die_once(flag)
        await commit(self, *records)

    GroupCommit.commit = dying  # type: ignore[method-assign]


def _in_recovery(flag: Path) -> None:
    store.reconcile = _dying_after(store.reconcile, flag, only=lambda put_right: put_right > 0)


def _before_finish(flag: Path) -> None:
    finish = store.finish

    @wraps(finish)
    async def dying(*args: Any, **named: Any) -> bool:
        _die_once(flag)
        return await finish(*args, **named)

    store.finish = dying


def _dying_after(function: Function, flag: Path, only: Callable[[Any], bool] = lambda _: True) -> Any:
    @wraps(function)
    async def dying(*args: Any, **named: Any) -> Any:
        result = await function(*args, **named)
        if only(result):
            _die_once(flag)
        return result

    return dying


def _die_once(flag: Path) -> None:
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


POINTS = {
    "before-accept": _before_accept,
    "after-accept": _after_accept,
    "after-claim": _after_claim,
    "after-begin": _after_begin,
    "before-done": _before_done,
    "in-recovery": _in_recovery,
    "before-finish": _before_finish,
}
OF_API = ("before-accept", "after-accept", "after-begin", "before-done")
OF_WORKER = ("after-claim", "in-recovery", "before-finish")

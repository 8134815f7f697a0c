"""Bounded child processes: limits hold, nothing of ours leaks in, and none is left behind."""

import asyncio
import os
import subprocess
import sys

import psutil
import pytest

from auralink.servers.toolbox.children import Child
from auralink.servers.toolbox.errors import ChildFailed

ANALYZE = "auralink.servers.toolbox.analyze"
# Unclosed brackets make the parser's error recovery work for many seconds.
HEAVY = {"code": "(" * 300_000, "language": "python"}


async def _one_child() -> psutil.Process:
    for _ in range(1_000):
        for child in psutil.Process().children():
            try:
                if ANALYZE in child.cmdline():
                    return child
            except psutil.Error:
                continue
        await asyncio.sleep(0.005)
    raise AssertionError("no child appeared")


def _limited(statement: str) -> subprocess.CompletedProcess[str]:
    code = f"from auralink.servers.toolbox.bounded import limit; limit(memory_bytes=300_000_000, cpu_seconds=1)\n{statement}"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_memory_is_bounded() -> None:
    assert "MemoryError" in _limited("bytearray(400_000_000)").stderr


def test_processor_time_is_bounded() -> None:
    assert _limited("while True: pass").returncode < 0


def test_no_byte_reaches_a_file(tmp_path: object) -> None:
    assert "OSError" in _limited(f"open({str(tmp_path)!r} + '/f', 'w').write('x' * 100_000)").stderr


async def test_a_child_that_takes_too_long_is_killed_and_the_caller_told() -> None:
    with pytest.raises(ChildFailed, match=r"The analysis took longer than 0\.6 s"):
        await Child(ANALYZE, what="The analysis", seconds=0.6).ask(HEAVY)
    assert not [c for c in psutil.Process().children() if ANALYZE in c.cmdline()]


@pytest.mark.promise("P-SECRET")
async def test_a_child_sees_no_environment_of_ours_and_dies_with_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "not-for-children")
    monkeypatch.setenv("SOME_PROXY", "handed on")
    call = asyncio.create_task(Child(ANALYZE, what="The analysis", seconds=30, passes=("SOME_PROXY",)).ask(HEAVY))
    child = await _one_child()
    environment = child.environ()
    assert "JWT_SECRET" not in environment
    assert environment.get("SOME_PROXY") == "handed on"
    assert child.cwd() == "/"
    assert os.getpgid(child.pid) == child.pid
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not child.is_running()


async def test_a_module_that_does_not_exist_is_a_failure_and_not_a_hang() -> None:
    with pytest.raises(ChildFailed, match="The errand failed"):
        await Child("auralink.servers.toolbox.no_such_module", what="The errand", seconds=20).ask({})


async def test_a_crash_is_told_without_what_caused_it() -> None:
    with pytest.raises(ChildFailed) as failure:
        await Child(ANALYZE, what="The analysis", seconds=20).ask({"code": "private text", "language": "klingon"})
    assert failure.value.message == "The analysis failed on this input"


async def test_only_so_many_run_at_once_and_the_others_wait_their_turn() -> None:
    child = Child(ANALYZE, what="The analysis", seconds=30, slots=1)
    answers = await asyncio.gather(*(child.ask({"code": f"x = {n}\n" * n, "language": "python"}) for n in (1, 2, 3)))
    assert [a["summary"]["lines"] for a in answers] == [1, 2, 3]

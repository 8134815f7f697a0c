"""An engine without a framework: its definitions name what its process shall do."""

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from auralink_engine import Emit, Job, Lost

warmed: list[int] = []


def warm() -> None:
    warmed.append(os.getpid())


async def run(job: Job, emit: Emit) -> Any:
    return await DEEDS[job.definition["do"]](job, emit)


async def echo(job: Job, emit: Emit) -> Any:
    emit("state", node="echo", update=job.input)
    return {"said": job.input, "at": job.accepted_at.isoformat(), "run": job.run, "attempt": job.attempt}


async def count(job: Job, emit: Emit) -> Any:
    for number in range(job.input["to"]):
        emit("state", number=number)
    return job.input["to"]


async def describe(job: Job, emit: Emit) -> Any:
    status = Path("/proc/self/status").read_text()
    return {
        "environment": dict(os.environ),
        "cwd": str(Path.cwd()),
        "session": os.getsid(0) == os.getpid(),
        "hash": hash("the same everywhere"),
        "chance": random.random(),
        "warmed_elsewhere": bool(warmed) and warmed[0] != os.getpid(),
        "warmed": bool(warmed),
        "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
        "network": str(Path("/proc/self/ns/net").readlink()),
        "parent": os.getppid(),
        "pid": os.getpid(),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "threads": int(status.split("Threads:")[1].split()[0]),
    }


async def noise(job: Job, emit: Emit) -> Any:
    print('{"op": "result", "output": "forged"}')
    os.write(1, b'{"op": "exited"}\n')
    subprocess.run(["echo", "from a program"], check=True)
    return "quiet"


async def fail(job: Job, emit: Emit) -> Any:
    raise ValueError("the answer is no")


async def lose(job: Job, emit: Emit) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(_lose())
        group.create_task(asyncio.sleep(60))


async def _lose() -> None:
    raise Lost("no gateway there")


async def crash(job: Job, emit: Emit) -> Any:
    print("about to crash", file=sys.stderr, flush=True)
    if job.input.get("signal"):
        os.kill(os.getpid(), job.input["signal"])
    os._exit(job.input["status"])


async def eat(job: Job, emit: Emit) -> Any:
    return len([bytearray(1024 * 1024) for _ in range(job.input["mib"])])


async def spin(job: Job, emit: Emit) -> Any:
    resource.setrlimit(resource.RLIMIT_CPU, (1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    while True:
        pass


async def wait(job: Job, emit: Emit) -> Any:
    emit("state", pid=os.getpid())
    await asyncio.Event().wait()


async def ignore(job: Job, emit: Emit) -> Any:
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    emit("state", pid=os.getpid(), grandchild=child.pid)
    await asyncio.Event().wait()


async def shout(job: Job, emit: Emit) -> Any:
    emit("state", text="x" * (1024 * 1024))
    emit("state", text="\ud800 alone")
    return "y" * job.input["length"]


async def nan(job: Job, emit: Emit) -> Any:
    return float("nan")


async def break_protocol(job: Job, emit: Emit) -> Any:
    for fd in range(3, 64):
        try:
            os.write(fd, b"this is not JSON\n")
        except OSError:
            continue
    await asyncio.Event().wait()


async def reach(job: Job, emit: Emit) -> Any:
    """Which of the given addresses answer."""
    answers = {}
    for url in job.input["urls"]:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                answers[url] = answer.status
        except OSError as error:
            answers[url] = type(error).__name__
    return answers


Deed = Callable[[Job, Emit], Awaitable[Any]]
DEEDS: dict[str, Deed] = {
    deed.__name__: deed
    for deed in (echo, count, describe, noise, fail, lose, crash, eat, spin, wait, ignore, shout, nan, break_protocol, reach)
}

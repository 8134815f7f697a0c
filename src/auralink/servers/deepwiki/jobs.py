"""Running the indexing process: start it, relay its progress, kill it at its deadline or when the caller goes away."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import orjson

from auralink.core.errors import AuralinkError
from auralink.servers.deepwiki.errors import BY_CODE, IndexingFailed, RepositoryUnreachable
from auralink.servers.deepwiki.repository import Source

UrlCheck = Callable[[str], Awaitable[Sequence[str] | None]]
"""Raises if a URL may not be reached; may return the addresses that were checked, and only those are then connected to."""
Progress = Callable[[str, int, int], Awaitable[None]]
"""Awaited with (stage, done, total); stage is `clone` or `index`, total 0 if unknown."""

MAX_BYTES = 512 << 20
MAX_CLONES = 64
DEADLINE = 300.0
_REDIRECTS = 3
_PASSED_ON = frozenset(
    """PATH LANG LC_ALL TMPDIR PYTHONPATH SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
    http_proxy https_proxy all_proxy no_proxy""".split()  # noqa: SIM905 - words read better as words
)


async def build(
    source: Source, home: Path, *, excluded: Path, check_url: UrlCheck, fetch: bool = False, progress: Progress | None = None
) -> None:
    """Bring the index under `home` to the source's present state; `fetch` also asks a clone's remote for news.

    Raises the domain's errors, IndexingFailed after 300 s.
    """
    job: dict[str, Any] = {
        "kind": source.kind,
        "location": source.location,
        "home": str(home),
        "excluded": str(excluded),
        "fetch": fetch,
        "max_bytes": MAX_BYTES,
        "max_clones": MAX_CLONES,
        "addresses": [],
    }
    try:
        async with asyncio.timeout(DEADLINE):
            for _ in range(_REDIRECTS + 1):
                if source.kind == "clone":
                    job["addresses"] = list(await check_url(job["location"]) or ())
                redirect = await _run(job, progress)
                if redirect is None:
                    return
                job["location"] = redirect
    except TimeoutError as error:
        raise IndexingFailed(
            f"Indexing {source.location} took over {DEADLINE:.0f} s and was stopped; try a smaller one."
        ) from error
    raise RepositoryUnreachable(f"{source.location} redirects more than {_REDIRECTS} times; give its final address.")


async def _run(job: dict[str, Any], progress: Progress | None) -> str | None:
    """Run the process once; the URL it was redirected to, or None when it is done."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "auralink.servers.deepwiki.build",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        process.stdin.write(orjson.dumps(job) + b"\n")
        async for line in process.stdout:
            event = orjson.loads(line)
            if event["event"] == "progress" and progress:
                await progress(event["stage"], event["done"], event["total"])
            elif event["event"] in {"done", "redirect"}:
                return str(event["url"]) if event["event"] == "redirect" else None
            elif event["event"] == "error":
                raise _error(event)
        raise IndexingFailed(await _last_words(process, errors))
    finally:
        await _to_the_end(_reap(process, errors))


async def _reap(process: asyncio.subprocess.Process, errors: "asyncio.Task[bytes]") -> None:
    """End the process, and read its pipes to their end: only then is its transport closed."""
    assert process.stdin is not None
    assert process.stdout is not None
    if process.returncode is None:
        process.stdin.close()
        _kill(process)
    await process.wait()
    await process.stdout.read()
    await errors


async def _to_the_end(cleanup: Coroutine[Any, Any, None]) -> None:
    """Await it although the caller may be cancelled meanwhile."""
    task = asyncio.create_task(cleanup)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _kill(process: asyncio.subprocess.Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # a group of its own: its helpers end with it
    except ProcessLookupError:
        return


def _error(event: dict[str, Any]) -> AuralinkError:
    return BY_CODE.get(event["code"], IndexingFailed)(event["message"])


async def _last_words(process: asyncio.subprocess.Process, errors: asyncio.Task[bytes]) -> str:
    status = await process.wait()
    words = (await errors).decode("utf-8", "replace").strip().splitlines()
    return f"The indexing process ended with status {status}: {words[-1] if words else 'it said nothing'}."


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    return {
        **kept,
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }

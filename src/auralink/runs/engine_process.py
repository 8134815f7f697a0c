"""One engine's parent process as the worker sees it: orders go in, lines come out, and it may die at any time."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import UUID

import orjson
import structlog

from auralink.core.errors import AuralinkError
from auralink.runs.engine_manifest import MANIFEST, PROTOCOL_FOLDER, Place, default_root

MAX_LINE = 16 * 1024 * 1024
MAX_BACKLOG = 64 * 1024 * 1024
WARM_UP = 120.0
PATIENCE = 5.0
TAIL_LINES = 20
PROTOCOL = 1
HOMES = "auralink-engine-"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH")
EVERYWHERE = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2", "PYTHONDONTWRITEBYTECODE": "1"}

log = structlog.get_logger(__name__)


class EngineUnavailable(AuralinkError):
    """The engine's parent process does not start."""

    code: ClassVar[str] = "engine_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Engine unavailable"


class Run:
    """One run in an engine: its events as they come, then its outcome (None when the engine died first)."""

    def __init__(self, run_id: UUID) -> None:
        self.id = str(run_id)
        self.outcome: Mapping[str, Any] | None = None
        self.backlog = 0
        self._events: asyncio.Queue[tuple[dict[str, Any], int] | None] = asyncio.Queue()
        self._ended = asyncio.Event()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The events in order, until the run's process has gone."""
        while (item := await self._events.get()) is not None:
            event, size = item
            self.backlog -= size
            yield event

    async def ended(self, within: float) -> bool:
        """Waits for the run's process to be gone; False when it is not, after so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def add(self, event: dict[str, Any], size: int) -> None:
        self.backlog += size
        self._events.put_nowait((event, size))

    def end(self) -> None:
        self._ended.set()
        self._events.put_nowait(None)


class EngineProcess:
    """The process, its readers, and the runs in it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, homes: Path) -> None:
        self.name = name
        self.pid = process.pid
        self.dead = False
        self.framework_version = ""
        self.isolated = False
        self._process = process
        self._homes = homes
        self._runs: dict[str, Run] = {}
        self._hello = asyncio.Event()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._readers = [asyncio.create_task(self._read()), asyncio.create_task(self._read_errors())]

    @classmethod
    async def launch(cls, place: Place, python: Path, root: Path) -> "EngineProcess":
        """Starts the engine of this folder with this interpreter. Raises EngineUnavailable."""
        homes = Path(tempfile.mkdtemp(prefix=f"{HOMES}{os.getpid()}-"))
        name = place.manifest.name
        command = [str(python), "-s", "-P", "-m", "auralink_engine", name]
        options = ["--manifest", str(place.folder / MANIFEST), "--homes", str(homes)]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                *options,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(place, root, homes),
                cwd=homes,
                start_new_session=True,
                limit=MAX_LINE,
            )
        except OSError as error:
            shutil.rmtree(homes, ignore_errors=True)
            raise EngineUnavailable(
                f"the engine {name!r} cannot be started: {error}; try `auralink engines check {name}`"
            ) from None
        return cls(name, process, homes)

    async def greeted(self) -> None:
        """Waits until the engine is warm. Raises EngineUnavailable with what it said last."""
        try:
            async with asyncio.timeout(WARM_UP):
                await self._hello.wait()
        except TimeoutError:
            await self.kill()
            raise EngineUnavailable(f"the engine {self.name!r} was not warm after {WARM_UP:.0f} s") from None
        if not self.framework_version:
            said = " | ".join(self._tail) or f"exit status {self._process.returncode}"
            raise EngineUnavailable(f"the engine {self.name!r} ended while starting: {said}")

    def start(self, message: Mapping[str, Any], run_id: UUID) -> Run:
        """Gives the engine a run."""
        run = Run(run_id)
        if run.id in self._runs:
            raise RuntimeError(f"the run {run.id} is already in the engine {self.name!r}")
        self._runs[run.id] = run
        self._write(message)
        if self.dead:
            self._runs.pop(run.id).end()
        return run

    def order(self, order: Literal["cancel", "kill"], run: Run) -> None:
        """Tells a run to end, or ends it."""
        self._write({"op": order, "run": run.id})

    def last_words(self) -> str:
        """What the process wrote to its standard error last."""
        return "\n".join(self._tail)

    async def kill(self) -> None:
        """Kills the process; the kernel takes its runs' processes with it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
        await self._finish()

    async def close(self) -> None:
        """Has the process end its runs and itself; kills it when that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        await self._finish()

    async def _finish(self) -> None:
        await self._process.wait()
        await asyncio.gather(*self._readers)
        await asyncio.to_thread(shutil.rmtree, self._homes, ignore_errors=True)

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        if not self.dead and not self._process.stdin.is_closing():
            self._process.stdin.write(orjson.dumps(message) + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._take(line)
        except ValueError:  # a line beyond the limit, or none of JSON: the engine cannot be trusted any more
            log.exception("engine.protocol_violation", engine=self.name)
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
        finally:
            self.dead = True
            self._hello.set()
            runs, self._runs = list(self._runs.values()), {}
            for run in runs:
                run.end()

    def _take(self, line: bytes) -> None:
        message = orjson.loads(line)
        if message["op"] == "hello":
            self._greet(message)
            return
        run = self._runs.get(message["run"])
        if run is None:
            return
        match message["op"]:
            case "event":
                run.add(message["event"], len(line))
                self._check_backlog(run)
            case "result" | "error":
                run.outcome = run.outcome or message
            case "exited":
                del self._runs[run.id]
                run.end()

    def _greet(self, message: Mapping[str, Any]) -> None:
        if message["version"] != PROTOCOL:
            raise ValueError(f"the engine speaks version {message['version']} of the protocol; this worker speaks {PROTOCOL}")
        self.framework_version = message["framework_version"]
        self.isolated = message["isolated"]
        said = {"framework_version": self.framework_version, "isolated": self.isolated}
        log.info("engine.ready", engine=self.name, pid=self.pid, **said)
        self._hello.set()

    def _check_backlog(self, run: Run) -> None:
        if run.backlog > MAX_BACKLOG and run.outcome is None:
            said = f"the run sent events faster than they can be stored ({MAX_BACKLOG >> 20} MiB waiting)"
            run.outcome = {"op": "error", "type": "TooManyEvents", "message": said, "traceback": ""}
            self.order("kill", run)

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(65536):
            for line in data.decode("utf-8", "replace").splitlines():
                self._tail.append(line[:500])
                log.debug("engine.stderr", engine=self.name, line=line)


def remove_leftovers() -> None:
    """Removes homes that a killed worker left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{HOMES}*"):
        owner = folder.name.removeprefix(HOMES).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _environment(place: Place, root: Path, homes: Path) -> dict[str, str]:
    """Little of the worker's environment, none of its secrets."""
    protocol = root / PROTOCOL_FOLDER
    if not protocol.is_dir():
        protocol = default_root() / PROTOCOL_FOLDER
    wanted = (*PASSED_ON, *place.manifest.passed_on)
    passed = {name: value for name, value in os.environ.items() if any(fnmatchcase(name, pattern) for pattern in wanted)}
    return passed | EVERYWHERE | {"PYTHONPATH": f"{protocol}:{place.folder}", "HOME": str(homes)}

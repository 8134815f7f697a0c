"""The engine's parent process: warmed once, then one process per run, their lines forwarded whole.

It has one thread and no event loop, so that forking it is safe: a selector over its orders (stdin) and the runs' pipes. A
framework that starts threads when imported cannot be forked; for it (`mode = "pool"`) the parent imports nothing and keeps a few
warmed single-run processes instead. Everything after that is the same for both. What an engine's runs share and no run can bring
along (`helper`) is a process of its own, started before anything else; when it dies, the engine does.
"""

import contextlib
import gc
import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from auralink_engine import PROTOCOL
from auralink_engine.child import Outlet, load, perform, preload, prepare
from auralink_engine.confine import die_with_parent, home_environment, settled_threads
from auralink_engine.job import Job
from auralink_engine.lines import LineReader, LineTooLong, Tail, Writer, encode
from auralink_engine.manifest import Manifest
from auralink_engine.network import Relay, isolate, possible

FULL = 16 * 1024 * 1024
HANDLED = {signal.SIGTERM, signal.SIGCHLD}
FROM_CHILD = {"event", "result", "error"}
MAX_BAD_SPARES = 3


@dataclass(eq=False)
class Child:
    """A process of ours and the ends of its pipes."""

    pid: int
    home: Path
    lines: LineReader
    tail: Tail
    orders: Writer | None = None
    run: str | None = None
    ready: bool = True
    finished: bool = False
    helps: bool = False
    refusal: str | None = None


@dataclass(frozen=True)
class Pipes:
    """The ends of a new process's pipes: ours to read, its own to write."""

    lines: tuple[int, int]
    tail: tuple[int, int]

    @classmethod
    def make(cls) -> "Pipes":
        pipes = cls(os.pipe(), os.pipe())
        for reading, _ in (pipes.lines, pipes.tail):
            os.set_blocking(reading, False)
        return pipes

    def keep_ours(self) -> None:
        os.close(self.lines[1])
        os.close(self.tail[1])


class Parent:
    """Serves orders until its stdin ends."""

    def __init__(self, manifest: Manifest, path: Path, homes: Path) -> None:
        self._manifest = manifest
        self._path = path
        self._homes = homes
        self._module: ModuleType | None = None
        self._selector = selectors.DefaultSelector()
        self._orders = LineReader(0)
        self._out = Writer(os.dup(1))
        self._children: dict[int, Child] = {}
        self._by_run: dict[str, Child] = {}
        self._paused = False
        self._stopping = False
        self._greeted = False
        self._bad_spares = 0
        self._relay: Relay | None = None
        self._ways: tuple[str, ...] = ()

    def serve(self) -> None:
        """Warms up, says hello, and works until the worker closes stdin or SIGTERM comes."""
        os.dup2(2, 1)  # what the framework prints must not get between the lines
        os.environ.update(self._manifest.environment)
        os.set_blocking(0, False)
        os.set_blocking(self._out.fd, False)
        self._listen_for_signals()
        self._watch(self._orders.fd, self._take_orders)
        if self._manifest.mode == "fork":
            self._start_relay()
        try:
            if self._manifest.helper is None:
                self._begin()
            else:
                self._spawn_own("--helper", os.open(os.devnull, os.O_RDONLY)).helps = True
                if self._manifest.mode == "fork":
                    preload(self._manifest)  # beside the helper's own start
            while not self._stopping:
                self._turn()
        except (BrokenPipeError, ConnectionError):
            pass  # the worker is gone
        finally:
            self._end_all()

    def _begin(self) -> None:
        """Gets ready for runs."""
        if self._manifest.mode == "pool":
            self._fill_pool()
        else:
            self._warm()
            self._greet()

    def _start_relay(self) -> None:
        """Gives runs networks of their own, where that is possible; before anything is loaded, so that the relay stays small."""
        if possible():
            parent = os.getpid()
            self._relay = Relay.start(lambda: self._become_relay(parent))

    def _become_relay(self, parent: int) -> None:
        die_with_parent(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._selector.close()
        for fd in (*self._signal_ends, self._out.fd, 0):
            os.close(fd)

    def _warm(self) -> None:
        self._module = load(self._manifest)
        self._arm_signals()
        threads = settled_threads()
        if threads > 1:
            sys.exit(f'{self._manifest.name}: {threads} threads after the import; it cannot be forked: set mode = "pool"')
        gc.collect()
        gc.freeze()  # the collector would otherwise touch, and so copy, every page in every child

    def _greet(self) -> None:
        self._greeted = True
        versions = {"version": PROTOCOL, "framework_version": self._manifest.framework_version}
        self._send({"op": "hello", "engine": self._manifest.name, "isolated": self._relay is not None, **versions})

    def _turn(self) -> None:
        self._out.flush()
        self._regulate()
        for key, _ in self._selector.select():
            if self._selector.get_map().get(key.fd) is key:  # an earlier one of the batch may have buried this one
                key.data()

    def _regulate(self) -> None:
        """Watches the way out while something waits for it, and stops listening to runs when too much does."""
        self._set_watched(self._out.fd, self._out.waiting > 0, lambda: None, selectors.EVENT_WRITE)
        if self._paused != (self._out.waiting > FULL):
            self._paused = not self._paused
            for child in self._children.values():
                self._set_watched(child.lines.fd, not self._paused and not child.lines.ended, self._line_handler(child))

    def _listen_for_signals(self) -> None:
        reading, writing = os.pipe()
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        self._signal_ends = (reading, writing)
        self._watch(reading, self._take_signals)
        self._arm_signals()

    def _arm_signals(self) -> None:
        """Has signals wake the loop; again after the rehearsal, in which a framework may have had an event loop that undid it."""
        signal.set_wakeup_fd(self._signal_ends[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _take_signals(self) -> None:
        numbers = os.read(self._signal_ends[0], 4096)
        if signal.SIGTERM in numbers:
            self._stopping = True
        self._reap()

    def _take_orders(self) -> None:
        for line in self._orders.read():
            message = json.loads(line)
            if message["op"] == "start":
                self._start(message)
            elif message["op"] == "cancel":
                self._signal(message["run"], signal.SIGTERM)
            elif message["op"] == "kill":
                self._signal(message["run"], signal.SIGKILL)
        self._stopping = self._stopping or self._orders.ended

    def _start(self, message: dict[str, Any]) -> None:
        run = message["run"]
        if run in self._by_run:
            self._send({"op": "error", "run": run, "type": "AlreadyRunning", "message": "this run is running", "traceback": ""})
            return
        try:
            child = self._fork(message) if self._module is not None else self._take_spare(message)
        except OSError as error:
            self._refuse(run, f"no process could be started for the run: {error}")
            return
        child.run = run
        self._by_run[run] = child
        self._send({"op": "started", "run": run, "pid": child.pid})

    def _refuse(self, run: str, why: str) -> None:
        self._send({"op": "error", "run": run, "type": "ProcessDied", "message": why, "traceback": "", "lost": True})
        self._send({"op": "exited", "run": run, "status": None})

    def _fork(self, message: dict[str, Any]) -> Child:
        module, relay, ways = self._module, self._relay, self._ways
        assert module is not None

        def live(home: Path, lines: int) -> NoReturn:
            job = Job.from_message(message)
            if relay is not None:
                isolate(job, relay.orders, ways)
            prepare(job, home)
            perform(module, job, Outlet(lines))

        return self._spawn(live, None)

    def _spawn(self, live: Callable[[Path, int], NoReturn], stdin: int | None) -> Child:
        """Forks; the new process calls `live` with its home and the descriptor for its lines."""
        home = Path(tempfile.mkdtemp(prefix="run-", dir=self._homes))
        pipes = Pipes.make()
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._live(live, parent, home, pipes, stdin)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        pipes.keep_ours()
        child = Child(pid, home, LineReader(pipes.lines[0]), Tail(pipes.tail[0]))
        self._children[pid] = child
        self._watch(child.lines.fd, self._line_handler(child))
        self._watch(child.tail.fd, lambda: self._take_tail(child))
        return child

    def _live(self, live: Callable[[Path, int], NoReturn], parent: int, home: Path, pipes: Pipes, stdin: int | None) -> NoReturn:
        """The new process's life; whatever happens, it never returns into the parent's loop."""
        try:
            self._become_child(parent, pipes, stdin)
            live(home, pipes.lines[1])
        except BaseException:  # noqa: BLE001 (the edge of the process)
            traceback.print_exc()
        finally:
            os._exit(70)

    def _become_child(self, parent: int, pipes: Pipes, given: int | None) -> None:
        """Lets go of everything that is the parent's: signals, pipes, session."""
        die_with_parent(parent)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for child in self._children.values():
            os.close(child.lines.fd)
            os.close(child.tail.fd)
            if child.orders is not None:
                os.close(child.orders.fd)
        self._selector.close()
        for fd in (*self._signal_ends, self._out.fd, pipes.lines[0], pipes.tail[0]):
            os.close(fd)
        stdin = given if given is not None else os.open(os.devnull, os.O_RDONLY)
        for source, target in ((stdin, 0), (pipes.tail[1], 1), (pipes.tail[1], 2)):
            os.dup2(source, target)
        os.close(stdin)
        os.close(pipes.tail[1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _fill_pool(self) -> None:
        spares = sum(1 for child in self._children.values() if child.run is None and not child.helps)
        for _ in range(self._manifest.spares - spares):
            self._spawn_spare()

    def _spawn_spare(self) -> Child:
        orders = os.pipe()
        child = self._spawn_own("--single", orders[0])
        os.set_blocking(orders[1], False)
        child.orders, child.ready = Writer(orders[1]), False
        return child

    def _spawn_own(self, role: str, stdin: int) -> Child:
        """A process of this program in another role, with an end of a pipe (which is its own then) as standard input."""

        def live(home: Path, lines: int) -> NoReturn:
            os.set_inheritable(lines, True)
            os.chdir(home)
            command = [sys.executable, "-s", "-m", "auralink_engine", role, str(lines), str(self._path)]
            os.execve(command[0], command, os.environ | home_environment(home))  # noqa: S606 (no shell is wanted)

        child = self._spawn(live, stdin)
        os.close(stdin)
        return child

    def _take_spare(self, message: dict[str, Any]) -> Child:
        """A warmed process for a run, or, when all are taken, one that is still warming; another takes its place."""
        spares = [child for child in self._children.values() if child.run is None and not child.helps]
        child = next((spare for spare in spares if spare.ready), None) or (spares[0] if spares else self._spawn_spare())
        assert child.orders is not None
        child.run = message["run"]
        child.orders.add(encode(message))
        self._send_orders(child)
        self._fill_pool()
        return child

    def _send_orders(self, child: Child) -> None:
        orders = child.orders
        if orders is None:
            return
        try:
            orders.flush()
        except BrokenPipeError:
            orders.waiting = 0
        self._set_watched(orders.fd, orders.waiting > 0, lambda: self._send_orders(child), selectors.EVENT_WRITE)
        if orders.waiting == 0:
            os.close(orders.fd)
            child.orders = None

    def _line_handler(self, child: Child) -> Callable[[], None]:
        return lambda: self._take_lines(child)

    def _take_lines(self, child: Child) -> None:
        try:
            for line in child.lines.read():
                self._take_line(child, line)
        except (LineTooLong, ValueError) as error:
            child.refusal = f"the run's process sent what is no message ({type(error).__name__})"
            child.lines.ended = True
            self._kill(child)
        if child.lines.ended:
            self._set_watched(child.lines.fd, False)

    def _take_line(self, child: Child, line: bytes) -> None:
        message = json.loads(line)
        if child.helps:
            os.environ.update(message["environment"])
            self._ways = tuple(message["ways"])
            child.finished = True
            self._begin()
            return
        if message.get("op") == "ready":
            child.ready = True
            self._bad_spares = 0
            if not self._greeted:
                self._greet()
            return
        if child.run is None or child.finished or message.get("op") not in FROM_CHILD:
            return
        child.finished = message["op"] != "event"
        self._send(message | {"run": child.run})

    def _take_tail(self, child: Child) -> None:
        child.tail.read()
        if child.tail.ended:
            self._set_watched(child.tail.fd, False)

    def _signal(self, run: str, number: signal.Signals) -> None:
        child = self._by_run.get(run)
        if child is None:
            return
        if number == signal.SIGKILL:
            self._kill(child)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)

    @staticmethod
    def _kill(child: Child) -> None:
        """Kills a process and what it has started: it leads a session of its own."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in self._dead():
            child = self._children.pop(pid, None)
            if child is not None:
                self._kill(child)  # what it has started; its id cannot be another's before it is reaped
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if child is not None:
                self._bury(child, status)
            elif self._relay is not None and pid == self._relay.pid:
                sys.exit(f"{self._manifest.name}: the relay to the gateways died")

    def _dead(self) -> Iterator[int]:
        while self._children or self._relay is not None:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            yield found.si_pid

    def _bury(self, child: Child, status: int) -> None:
        """Takes what a dead process has left in its pipes, tells its end, and removes its traces."""
        while not (child.lines.ended or child.lines.dry):
            self._take_lines(child)
        child.tail.read()
        for fd in (child.lines.fd, child.tail.fd, *([child.orders.fd] if child.orders is not None else [])):
            self._set_watched(fd, False)
            os.close(fd)
        shutil.rmtree(child.home, ignore_errors=True)
        if child.helps:
            self._check_helper(child, status)
            return
        if child.run is None:
            self._replace_spare(child)
            return
        del self._by_run[child.run]
        if self._relay is not None:
            self._relay.drop(child.run)
        if not child.finished:
            self._send({"op": "error", "run": child.run, **self._death_of(child, status)})
        self._send({"op": "exited", "run": child.run, "status": status})

    @staticmethod
    def _death_of(child: Child, status: int) -> dict[str, Any]:
        last = child.tail.lines()
        if child.refusal is not None:
            return {"type": "ProtocolViolation", "message": child.refusal, "traceback": "\n".join(last), "lost": False}
        if status == -signal.SIGXCPU:
            return {"type": "CpuLimit", "message": "the run used up its CPU time", "traceback": "\n".join(last), "lost": False}
        said = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        message = f"the run's process {said} before it had a result"
        if last:
            message += f"; its last line: {last[-1][:500]}"
        return {"type": "ProcessDied", "message": message, "traceback": "\n".join(last), "lost": True}

    def _check_helper(self, child: Child, status: int) -> None:
        """A helper that was ready and ends well had nothing to serve."""
        if not (child.finished and status == 0) and not self._stopping:
            sys.exit(
                f"{self._manifest.name}: the helper of its runs ended with {status}; it said:\n" + "\n".join(child.tail.lines())
            )

    def _replace_spare(self, child: Child) -> None:
        self._bad_spares += 1
        if self._bad_spares >= MAX_BAD_SPARES:
            sys.exit(
                f"{self._manifest.name}: {MAX_BAD_SPARES} processes died while warming up; the last said:\n"
                + "\n".join(child.tail.lines())
            )
        if not self._stopping:
            self._fill_pool()

    def _end_all(self) -> None:
        if self._relay is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._relay.pid, signal.SIGKILL)
        for child in self._children.values():
            self._kill(child)
        for pid, child in self._children.items():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            shutil.rmtree(child.home, ignore_errors=True)

    def _send(self, message: dict[str, Any]) -> None:
        self._out.add(encode(message))

    def _watch(self, fd: int, handler: Callable[[], None], events: int = selectors.EVENT_READ) -> None:
        self._selector.register(fd, events, handler)

    def _set_watched(
        self, fd: int, wanted: bool, handler: Callable[[], None] = lambda: None, events: int = selectors.EVENT_READ
    ) -> None:
        watched = fd in self._selector.get_map()
        if wanted and not watched:
            self._watch(fd, handler, events)
        elif watched and not wanted:
            self._selector.unregister(fd)

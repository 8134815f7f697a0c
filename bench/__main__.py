"""`make bench`: what the service costs, printed beside a baseline of the same run.

Upstreams, vendor, proxy, service and load client are processes of their own. Only the ratios and the CPU per call carry over to
another machine.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import flows, indexing, models, peers, processes, runs, strain, teams, tools
from bench.service import running_service, start_times

CALLERS, QUICK_CALLERS = (1, 10, 50, 200), (1, 50)
SECONDS, QUICK_SECONDS = 2.0, 0.6
FILES, QUICK_FILES = 5000, 500
SUBJECTS = ("tools", "models", "runs", "teams", "flows", "strain", "wiki")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("subject", nargs="*", metavar="SUBJECT", help=f"what to measure, of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument("--callers", type=int, nargs="+", help=f"how many at once (default {' '.join(map(str, CALLERS))})")
    chosen = parser.parse_args()
    if unknown := set(chosen.subject) - set(SUBJECTS):
        parser.error(f"there is no {', '.join(unknown)}; there is {', '.join(SUBJECTS)}")
    subjects = chosen.subject or SUBJECTS
    callers = tuple(chosen.callers or (QUICK_CALLERS if chosen.quick else CALLERS))
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory(prefix="auralink-bench-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        home.chmod(0o711)
        if {"tools", "wiki"} & set(subjects):
            _tools(console, home, callers, subjects, quick=chosen.quick)
        if "models" in subjects:
            models.measure(console, _place(home, "models"), callers, QUICK_SECONDS if chosen.quick else SECONDS)
        if "runs" in subjects:
            runs.measure(console, _place(home, "runs"), quick=chosen.quick)
        if "teams" in subjects:
            teams.measure(console, _place(home, "teams"), quick=chosen.quick)
        if "flows" in subjects:
            flows.measure(console, _place(home, "flows"), quick=chosen.quick)
        if "strain" in subjects:
            _strain(console, _place(home, "strain"), quick=chosen.quick)


def _place(home: Path, name: str) -> Path:
    """A folder for a service of its own, on which nothing else has left a trace."""
    place = home / name
    place.mkdir(mode=0o711)
    return place


def _tools(console: Console, home: Path, callers: tuple[int, ...], subjects: tuple[str, ...], *, quick: bool) -> None:
    with contextlib.ExitStack() as stack:
        upstreams = {kind: stack.enter_context(tools.upstream(kind)) for kind in ("bare", "sdk")}
        proxies = {
            kind: stack.enter_context(tools.upstream("proxy", f"http://127.0.0.1:{port}/mcp")) for kind, port in upstreams.items()
        }
        cold, warm = start_times(home, upstreams)
        service = stack.enter_context(running_service(home, upstreams))
        idle = processes.memory_mib(service.process.pid)
        tools.connect(service, tuple(upstreams))
        if "tools" in subjects:
            for kind, port in upstreams.items():
                doors = tools.doors(kind, port, proxies[kind], service)
                if kind == "bare" and peers.installed():
                    doors.append(stack.enter_context(peers.door(doors[0])))
                console.print(tools.measured(kind, doors, callers, QUICK_SECONDS if quick else SECONDS))
            console.print(_facts(cold, warm, idle, processes.memory_mib(service.process.pid)))
        if "wiki" in subjects:
            console.print(indexing.measured(service, home / "wiki" / "bench" / "code", QUICK_FILES if quick else FILES))


def _strain(console: Console, home: Path, *, quick: bool) -> None:
    with contextlib.ExitStack() as stack:
        ports = {kind: stack.enter_context(tools.upstream(kind)) for kind in ("bare", "hang", "flood")}
        ports["killed"] = processes.free_port()
        doomed = stack.enter_context(
            processes.running(processes.program("python", "-m", "bench.upstreams", "bare", str(ports["killed"])))
        )
        processes.await_port(ports["killed"], doomed)
        service = stack.enter_context(running_service(home, ports))
        tools.connect(service, tuple(ports))
        plans = {kind: dict(tools.doors(kind, ports[kind], None, service)[-1].plan) for kind in ports}
        pid = service.process.pid
        console.print(strain.abandoned(plans["bare"], pid, strain.QUICK_SESSIONS if quick else strain.SESSIONS))
        console.print(strain.strained(plans["bare"], plans, doomed.kill, pid, seconds=3.0 if quick else 10.0))
        if not quick:
            console.print(strain.unread(plans["flood"], pid))


def _facts(cold: float, warm: float, idle: float, loaded: float) -> Table:
    table = Table(title="the service", show_header=False)
    table.add_row("start to ready, empty data directory", f"{cold:.2f} s")
    table.add_row("start to ready, used before", f"{warm:.2f} s")
    table.add_row("API process, idle (PSS)", f"{idle:.0f} MiB")
    table.add_row("API process, after the load (PSS)", f"{loaded:.0f} MiB")
    return table


if __name__ == "__main__":
    main()

"""`auralink engines`: which agent frameworks there are, and their environments."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from auralink.cli_output import show
from auralink.core.errors import AuralinkError
from auralink.runs.engine_install import install
from auralink.runs.engine_manifest import Place, default_root, find_places, get_place
from auralink.runs.engine_process import EngineProcess

engines = typer.Typer(no_args_is_help=True, help="The agent frameworks, each in an environment of its own.")
out = Console(highlight=False)

Root = Annotated[
    Path, typer.Option("--root", help="the folder of the engines", default_factory=default_root, show_default="engines")
]
Names = Annotated[list[str] | None, typer.Argument(help="which; all when none is named")]


@engines.command("list")
def list_engines(root: Root) -> None:
    """List the engines and whether they are installed."""
    table = Table("name", "framework", "runs", "state", box=None, pad_edge=False)
    for place in find_places(root):
        manifest = place.manifest
        table.add_row(manifest.name, manifest.title, ", ".join(sorted(manifest.kinds)), place.state())
    show(table)


@engines.command("install")
def install_engines(
    root: Root, names: Names = None, again: Annotated[bool, typer.Option("--again", help="make the environment anew")] = False
) -> None:
    """Make the environments of engines from their locks."""
    for place in _chosen(root, names):
        if not install(place, lambda line: out.print(line, markup=False), again=again):
            out.print(f"{place.manifest.name}: is installed", markup=False)


@engines.command("check")
def check_engines(root: Root, names: Names = None) -> None:
    """Start each engine, wait until it is warm, and end it."""
    healthy = True
    for place in _chosen(root, names):
        try:
            said = asyncio.run(_check(place, root))
        except AuralinkError as error:
            healthy, said = False, f"BAD  {place.manifest.name}: {error}"
        out.print(said, markup=False, soft_wrap=True)
    raise typer.Exit(0 if healthy else 1)


def _chosen(root: Path, names: list[str] | None) -> list[Place]:
    return [get_place(root, name) for name in names] if names else list(find_places(root))


async def _check(place: Place, root: Path) -> str:
    name, state = place.manifest.name, place.state()
    if state != "installed":
        return f"     {name}: {state}; install it with `auralink engines install {name}`"
    begun = time.perf_counter()
    process = await EngineProcess.launch(place, place.python, root)
    try:
        await process.greeted()
    finally:
        await process.close()
    network = "its runs reach the gateways only" if process.isolated else "its runs share this machine's network"
    warm = f"warm after {time.perf_counter() - begun:.1f} s"
    return f"ok   {name}: {place.manifest.title} {process.framework_version}, {warm}; {network}"

"""`auralink flows`: what an operator does so that flows run on a Prefect server."""

import json
import os
import subprocess
from typing import Annotated

import typer
from rich.console import Console

from auralink.core.errors import StartupError
from auralink.runs.engine_manifest import PROTOCOL_FOLDER, default_root, get_place

ENGINE = "prefect"
DEPLOYS = "auralink_prefect.deploy"
flows = typer.Typer(no_args_is_help=True, help="Flows on a Prefect server.")
out = Console(highlight=False)


@flows.callback()
def about() -> None:
    """Flows on a Prefect server."""


@flows.command()
def deploy(
    pool: Annotated[str, typer.Option("--pool", help="the work pool whose workers shall run flows")],
    variables: Annotated[str, typer.Option("--variables", help="job variables of the work pool, as JSON")] = "{}",
) -> None:
    """Register the deployment by which flows run, at the Prefect server of PREFECT_API_URL."""
    root = default_root()
    place = get_place(root, ENGINE)
    if place.state() != "installed":
        raise StartupError(f"the engine {ENGINE} is {place.state()}; run `auralink engines install {ENGINE}`")
    if not os.environ.get("PREFECT_API_URL"):
        raise StartupError("PREFECT_API_URL is not set; set it to the address of the Prefect server's API, http://HOST:4200/api")
    path = f"{root / PROTOCOL_FOLDER}:{place.folder}"
    command = [str(place.python), "-s", "-m", DEPLOYS, "--pool", pool, "--variables", variables]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartupError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the deployment was not registered")
    made = json.loads(done.stdout.splitlines()[-1])
    out.print(
        f"deployed {made['deployment']} ({made['id']}) to the {made['type']} pool {made['pool']}", markup=False, soft_wrap=True
    )

"""`auralink run` and `auralink runs`: start workflows, teams and flows, and look after runs."""

from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from auralink.cli_acting import Json, User, act, json_object, print_json, print_table
from auralink.client import AuraLink
from auralink.runs.schemas import Accepted, Run, RunDetail, Status

runs = typer.Typer(no_args_is_help=True, help="Runs: what they do, what came out, and doing them again.")
MODEL = typer.Option("--model", help="ask this model from there on")
KINDS = ("workflow", "team", "flow")


def run(
    what: Annotated[
        str, typer.Argument(help="a workflow's name or id; or: team, flow, workflow", metavar="[team|flow|workflow]")
    ],
    name: Annotated[str | None, typer.Argument(help="its name or id, behind team, flow or workflow", metavar="NAME")] = None,
    given: Annotated[str, typer.Option("--input", help="JSON object")] = "{}",
    task: Annotated[str | None, typer.Option("--task", help="what a team is to do")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait for its end and print its output")] = False,
    user: User = "demo",
    json: Json = False,
) -> None:
    """Run a workflow, a team (run team "Research Team" --task "…") or a flow (run flow NAME)."""
    kind, reference = ("workflow", what) if name is None else (what, name)
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is not what can be run here; there are {', '.join(KINDS)}")
    if task is not None and kind != "team":
        raise typer.BadParameter("--task is what a team does; a workflow or a flow takes --input")
    input_data = json_object(given) | ({} if task is None else {"task_description": task})

    async def running(client: AuraLink) -> RunDetail:
        started = await _start(client, kind, reference, input_data)
        return await client.run_when_ended(started.run_id) if wait else await client.run(started.run_id)

    _show(act(user, running), json=json)


@runs.command("list")
def list_runs(
    status: Annotated[str | None, typer.Option(help="queued, running, waiting, succeeded, failed or cancelled")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    user: User = "demo",
    json: Json = False,
) -> None:
    """List your runs, newest first."""
    page = act(user, lambda client: client.runs(status=status, limit=limit))
    if json:
        print_json(page.model_dump(mode="json"))
        return
    rows = [(str(r.run_id), r.kind, _status(r), r.step or "", f"{r.accepted_at:%Y-%m-%d %H:%M}") for r in page.items]
    print_table(("id", "kind", "status", "step", "accepted"), rows)


@runs.command("show")
def show_run(run_id: UUID, user: User = "demo", json: Json = False) -> None:
    """Show a run: where it is and what came out."""
    _show(act(user, lambda client: client.run(run_id)), json=json)


@runs.command("events")
def follow_run(run_id: UUID, user: User = "demo") -> None:
    """Follow a run's events to its end, one JSON object a line."""

    async def following(client: AuraLink) -> None:
        async for event in client.run_events(run_id):
            print(orjson.dumps(event).decode(), flush=True)

    act(user, following)


@runs.command("cancel")
def cancel_run(run_id: UUID, user: User = "demo", json: Json = False) -> None:
    """Cancel a run and what it has started; it stays readable and can be resumed."""
    _show(act(user, lambda client: client.cancel_run(run_id)), json=json)


@runs.command("resume")
def resume_run(run_id: UUID, user: User = "demo", json: Json = False) -> None:
    """Start a failed or cancelled run anew from its journal."""
    _show(act(user, lambda client: _then_show(client, client.resume_run(run_id))), json=json)


@runs.command("fork")
def fork_run(
    run_id: UUID,
    at: Annotated[int, typer.Option(min=0, help="the last entry of the journal that is kept")],
    model: Annotated[str | None, MODEL] = None,
    user: User = "demo",
    json: Json = False,
) -> None:
    """Start a run with the first entries of another's journal, which then goes its own way."""
    overrides = {} if model is None else {"model": model}
    _show(act(user, lambda client: _then_show(client, client.fork_run(run_id, at, overrides))), json=json)


async def _start(client: AuraLink, kind: str, reference: str, given: dict[str, Any]) -> Accepted:
    if kind == "team":
        return await client.execute_team(await client.find_team(reference), **given)
    if kind == "flow":
        return await client.execute_flow(await client.find_flow(reference), given)
    return await client.execute(await client.find_workflow(reference), given)


async def _then_show(client: AuraLink, started: Any) -> RunDetail:
    return await client.run((await started).run_id)


def _status(run: Run) -> str:
    status: Status = run.status
    return f"{status} ({run.reason})" if run.reason else status


def _show(run: RunDetail, *, json: bool) -> None:
    """Prints a run; one that has failed is an exit code of 1."""
    if json:
        print_json(run.model_dump(mode="json"))
    else:
        print(f"{run.run_id}  {run.kind}  {_status(run)}")
        if run.output is not None:
            print_json(run.output)
        if run.status == "failed":
            print((run.error or {}).get("message", ""))
    if run.status == "failed":
        raise typer.Exit(1)

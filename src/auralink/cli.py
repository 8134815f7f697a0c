"""The command line. What a user does goes through the typed client; only what runs the service itself is done here."""

import asyncio
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
import typer
from dotenv import load_dotenv
from rich.console import Console

from auralink import __version__
from auralink.cli_acting import Json, User, act, embedded_token, json_object, out, print_json, print_table
from auralink.cli_models import models
from auralink.cli_runs import run, runs
from auralink.client import ApiError, AuraLink, ServiceUnreachable
from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret
from auralink.core.settings import load_settings
from auralink.engines_cli import engines
from auralink.flows_cli import flows

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="AuraLink AI Core: agents that act, through two gateways.",
)
keys = typer.Typer(no_args_is_help=True, help="The vault's keys.")
app.add_typer(keys, name="keys")
memory = typer.Typer(no_args_is_help=True, help="A user's memory as a file (the reference memory server's JSONL).")
app.add_typer(memory, name="memory")
app.add_typer(engines, name="engines")
app.add_typer(flows, name="flows")
app.add_typer(models, name="models")
app.add_typer(runs, name="runs")
app.command("run")(run)
progress_out = Console(stderr=True)

UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def main() -> None:
    """Runs the command line; an error is one line on stderr and exit code 1."""
    load_dotenv(".env")  # for what is read beside the settings: ${VAR} in the configuration, keys of hosted servers
    try:
        app()
    except (AuralinkError, ApiError) as error:
        print(f"auralink: {error}", file=sys.stderr)
        sys.exit(1)
    except ServiceUnreachable as error:
        print(f"auralink: {error}; start it (make run), or set AURALINK_URL or AURALINK_PORT to where it is", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def serve(first_job: Annotated[bool, typer.Option("--first-job", help="do a first real job once serving")] = False) -> None:
    """Run the service. Without DATABASE_URL it starts its own Postgres."""
    from auralink.first_job import do_first_job  # the service's imports cost a second that other commands need not pay
    from auralink.mcp.config import get_mcp_config
    from auralink.serving import serve as run

    settings = load_settings()

    async def job(foundation: Any) -> None:
        await do_first_job(settings, foundation, out)

    with_job = job if first_job and settings.embedded and settings.jwt_jwks_url is None else None
    run(settings, get_mcp_config(), _progress, with_job)


@app.command()
def worker(
    engine: Annotated[list[str] | None, typer.Option(help="take runs of this engine only; may be repeated")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="runs at a time")] = 8,
    beside: Annotated[bool, typer.Option("--beside", hidden=True)] = False,
) -> None:
    """Run a worker: it takes runs and feeds engines. `auralink serve` starts one; add more, on any machine."""
    from auralink.worker import work  # the worker's imports cost time that other commands need not pay

    work(load_settings(), _progress, engines=engine or (), concurrency=concurrency, beside=beside)


@app.command()
def stop() -> None:
    """Stop the service of this data directory, and the embedded Postgres, also what a killed run left."""
    from auralink.bootstrap import data_dir_of
    from auralink.serving import stop as halt

    data_dir = data_dir_of(load_settings())
    stopped = halt(data_dir)
    nothing = f"nothing was running on {data_dir} (AURALINK_DATA_DIR names another)"
    print(f"stopped {' and '.join(stopped)}" if stopped else nothing)


@app.command()
def migrate(
    phase: Annotated[Literal["all", "pre", "post"], typer.Option(help="pre: before the new code, post: after the old")] = "all",
) -> None:
    """Bring the database's schema up to date, as its owner (DATABASE_OWNER_URL; embedded mode knows its own)."""
    from auralink.core.migrate import migrate as run

    applied = run(_owner_dsn(), phase=phase, progress=_progress)
    print(f"applied {', '.join(applied)}" if applied else "the schema is up to date")


@app.command("bootstrap-database")
def bootstrap_database(
    superuser_url: Annotated[str, typer.Option(envvar="DATABASE_SUPERUSER_URL", help="a superuser's address of the server")],
    name: Annotated[str, typer.Option(help="the database to make")] = "auralink",
) -> None:
    """Make the roles and the database on a Postgres of your own, and print the two settings that the service then needs."""
    from auralink.core.embedded_postgres import bootstrap_external

    service, owner = bootstrap_external(Secret(superuser_url), name)
    print(f"DATABASE_URL={service.reveal()}\nDATABASE_OWNER_URL={owner.reveal()}")


@app.command()
def dsn(
    owner: Annotated[bool, typer.Option("--owner", help="the owner's address instead of the service's")] = False,
    tcp: Annotated[bool, typer.Option("--tcp", help="over loopback TCP, if the server listens there")] = False,
) -> None:
    """Print the embedded database's address, for psql and backups."""
    cluster = _cluster()
    print(cluster.dsn("owner" if owner else "service", tcp=tcp).reveal())


@app.command()
def token(
    user: Annotated[str, typer.Option(help="the token's subject")] = "demo",
    role: Annotated[Literal["user", "admin"], typer.Option()] = "user",
    ttl: Annotated[str, typer.Option(help="how long it is valid, e.g. 30m, 12h, 7d")] = "12h",
    email: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Issue a token (embedded mode only)."""
    print(embedded_token(load_settings(), user, role, _duration(ttl), email).reveal())


@keys.command("rotate")
def rotate_keys() -> None:
    """Wrap every data key with the first key of MCP_ENCRYPTION_KEY; online, restartable."""
    from auralink.bootstrap import lay_foundation
    from auralink.standalone import opened_database
    from auralink.vault.service import Vault

    foundation = lay_foundation(load_settings(), _progress)

    async def rotate() -> int:
        async with opened_database(foundation) as db:
            return await Vault(db, foundation.ring).rotate()

    print(f"{asyncio.run(rotate())} users' keys wrapped anew with {foundation.ring.current_key_id}")


@app.command()
def connect(
    server_type: str,
    name: Annotated[str | None, typer.Option()] = None,
    endpoint: Annotated[str | None, typer.Option(help="the address of a custom server")] = None,
    credential_env: Annotated[
        str | None, typer.Option(help="KIND=VARIABLE: the credential's kind (api_key, token, dsn) and the variable that has it")
    ] = None,
    user: User = "demo",
    json: Json = False,
) -> None:
    """Connect an MCP server."""
    fields: dict[str, Any] = {"name": name, "endpoint": endpoint, "credentials": _credentials(credential_env)}
    given = {key: value for key, value in fields.items() if value is not None}
    answer = act(user, lambda client: client.connect(server_type, **given))
    if json:
        print_json(answer.model_dump(mode="json"))
    else:
        print(f"connected {answer.server_name} as {answer.name!r}: {answer.connection_id}")
        if answer.authorization_url is not None:
            print(f"  it wants you to authorise it; open this in a browser:\n  {answer.authorization_url}")
            return
        print(f"  revision {answer.protocol_version}, served by {answer.served_by}, can: {', '.join(answer.capabilities)}")


@app.command()
def disconnect(connection_id: UUID, user: User = "demo") -> None:
    """Close a connection and delete its credential."""
    act(user, lambda client: client.disconnect(connection_id))
    print("disconnected")


@app.command()
def connections(user: User = "demo", json: Json = False) -> None:
    """List your connections."""
    page = act(user, lambda client: client.connections())
    if json:
        print_json(page.model_dump(mode="json"))
        return
    rows = [(str(c.connection_id), c.name, c.server_type, c.status, c.last_error or "") for c in page.items]
    print_table(("id", "name", "type", "status", "last error"), rows)


@app.command()
def tools(query: Annotated[str | None, typer.Argument()] = None, user: User = "demo", json: Json = False) -> None:
    """List the tools of your connections."""
    page = act(user, lambda client: client.tools(query))
    if json:
        print_json(page.model_dump(mode="json"))
        return
    print_table(("name", "policy", "what it does"), [(t.name, t.policy, _first_line(t.description)) for t in page.items])
    for missing in page.degraded:
        print(f"missing: {missing.connection}: {missing.message}", file=sys.stderr)


@app.command()
def call(
    name: str, arguments: Annotated[str, typer.Argument(help="JSON object")] = "{}", user: User = "demo", json: Json = False
) -> None:
    """Call a tool by its name in the list."""
    parsed = json_object(arguments)
    answer = act(user, lambda client: client.call(name, parsed))
    if json:
        print_json(answer.model_dump(mode="json"))
        return
    for block in answer.result.get("content", ()):
        print(block.get("text") or orjson.dumps(block).decode())
    if answer.result.get("isError"):
        raise typer.Exit(1)


@app.command()
def ask(
    question: str, repo: Annotated[str, typer.Option(help="owner/name, an https URL, or a folder")] = ".", user: User = "demo"
) -> None:
    """Ask a repository a question (connects DeepWiki if you have not)."""
    place = str(Path(repo).resolve()) if Path(repo).is_dir() else repo

    async def asking(client: AuraLink) -> dict[str, Any]:
        found = [c.connection_id for c in (await client.connections()).items if c.server_type == "deepwiki"]
        wiki = found[0] if found else (await client.connect("deepwiki")).connection_id
        return await client.ask(wiki, place, question)

    answer = act(user, asking)
    out.print(answer["answer"], markup=False, highlight=False, soft_wrap=True)
    for source in answer["sources"]:
        out.print(f"  {source['file']}:{source['line']}  {source['heading']}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"confidence {answer['confidence']:.2f}", highlight=False)


@app.command("mcp")
def run_mcp_server(
    name: Annotated[str, typer.Argument(help="deepwiki, memory, sequential_thinking, supabase or toolbox")],
    stdio: Annotated[bool, typer.Option("--stdio", help="speak MCP on stdin and stdout (the default)")] = False,
    http: Annotated[int | None, typer.Option(metavar="PORT", help="serve Streamable HTTP on this port of 127.0.0.1")] = None,
    user: Annotated[str, typer.Option(help="whose memory and thoughts")] = "demo",
    dsn_env: Annotated[str | None, typer.Option(help="the variable that has the address of the database (supabase)")] = None,
    write: Annotated[bool, typer.Option("--write", help="let statements write (supabase)")] = False,
) -> None:
    """Run a built-in MCP server by itself, for any MCP client."""
    from auralink.standalone import run_server

    if stdio and http is not None:
        raise typer.BadParameter("give --stdio or --http PORT, not both")
    dsn = os.environ.get(dsn_env) if dsn_env else None
    if dsn_env and not dsn:
        raise typer.BadParameter(f"the variable {dsn_env} is not set")
    settings = load_settings()
    asyncio.run(run_server(settings, name, user, http_port=http, dsn=Secret(dsn) if dsn else None, write=write))


@memory.command("export")
def export_memory(path: Path, user: Annotated[str, typer.Option()] = "demo") -> None:
    """Write a user's graph to a file."""
    from auralink.standalone import export_memory as run

    print(f"{asyncio.run(run(load_settings(), user, path))} lines written to {path}")


@memory.command("import")
def import_memory(path: Path, user: Annotated[str, typer.Option()] = "demo") -> None:
    """Add a file to a user's graph; may be repeated."""
    from auralink.standalone import import_memory as run

    new = asyncio.run(run(load_settings(), user, path))
    print(f"{new.entities} entities, {new.observations} observations and {new.relations} relations were new")


@app.command()
def doctor() -> None:
    """Check everything and say what to do."""
    from auralink.doctor import examine

    healthy = True
    for finding in asyncio.run(examine()):
        out.print(
            f"{'ok  ' if finding.ok else 'BAD '} {finding.what}: {finding.state}", markup=False, highlight=False, soft_wrap=True
        )
        healthy = healthy and finding.ok
    raise typer.Exit(0 if healthy else 1)


def _cluster() -> Any:
    from auralink.bootstrap import data_dir_of
    from auralink.core import embedded_postgres

    settings = load_settings()
    if not settings.embedded:
        raise typer.BadParameter("DATABASE_URL is set: there is no embedded database")
    return embedded_postgres.start(data_dir_of(settings), progress=_progress)


def _owner_dsn() -> Secret:
    settings = load_settings()
    if settings.embedded:
        dsn: Secret = _cluster().dsn("owner")
        return dsn
    if settings.database_owner_url is None:
        raise typer.BadParameter("set DATABASE_OWNER_URL to the address of the database's owner")
    return settings.database_owner_url


def _credentials(source: str | None) -> dict[str, str] | None:
    if source is None:
        return None
    kind, _, variable = source.partition("=")
    value = os.environ.get(variable)
    if kind not in ("api_key", "token", "dsn") or not value:
        raise typer.BadParameter("give KIND=VARIABLE with KIND api_key, token or dsn and a variable that is set")
    return {kind: value}


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([smhd])", text)
    if match is None:
        raise typer.BadParameter("give a number from 1 to 99999 and s, m, h or d, e.g. 12h")
    return int(match[1]) * UNITS[match[2]]


def _progress(message: str) -> None:
    progress_out.print(f"[dim]{message}[/dim]", highlight=False)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]

"""What `make run` does beside serving: a first real job, through the same client and doors that any application uses."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape

from auralink.auth.tokens import issue_token
from auralink.bootstrap import Foundation
from auralink.client import ApiError, AuraLink, ServiceUnreachable
from auralink.core.secret import Secret
from auralink.core.settings import PROJECT_ROOT, Settings
from auralink.mcp.schemas import ToolPage

DEMO_USER = "demo"
QUESTION = "How does the gateway call a tool?"
TOKEN_LIFETIME = timedelta(days=7)
SOURCES_SHOWN = 6


async def do_first_job(settings: Settings, foundation: Foundation, console: Console) -> None:
    """Connects the built-in servers for the demo user, asks this checkout a question, and prints the answer and where to go on.

    What goes wrong is printed; the service serves on.
    """
    url = service_url(settings)
    token = demo_token(settings, foundation)
    try:
        await _ask_this_checkout(url, token, console)
    except (ApiError, ServiceUnreachable) as error:
        console.print(f"[bold red]The first job failed:[/bold red] {escape(str(error))}")
    _print_addresses(console, url, token)


async def _ask_this_checkout(url: str, token: Secret, console: Console) -> None:
    async with AuraLink(url, token) as client:
        connections = await connect_all(client)
        started = time.perf_counter()
        with console.status(f"indexing {PROJECT_ROOT} and asking it a question"):
            answer = await client.ask(connections["deepwiki"], str(PROJECT_ROOT), QUESTION)
        _print_answer(console, answer, time.perf_counter() - started)
        _print_servers(console, await client.tools())


async def connect_all(client: AuraLink) -> dict[str, UUID]:
    """Connects every built-in server that the user does not have; the connections by server type."""
    connected = {c.server_type: c.connection_id for c in (await client.connections()).items}
    for server in (await client.servers()).items:
        if server.transport == "in_process" and server.server_type not in connected:
            connected[server.server_type] = (await client.connect(server.name)).connection_id
    return connected


def service_url(settings: Settings) -> str:
    """Where the service answers on this machine."""
    host = settings.auralink_host
    return settings.auralink_url or f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{settings.auralink_port}"  # noqa: S104


def demo_token(settings: Settings, foundation: Foundation) -> Secret:
    """A token of the demo user, signed with the embedded mode's own secret."""
    assert foundation.jwt_secret is not None
    token = issue_token(
        foundation.jwt_secret,
        subject=DEMO_USER,
        role="user",
        ttl=TOKEN_LIFETIME,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    return Secret(token)


def _print_answer(console: Console, answer: dict[str, Any], seconds: float) -> None:
    console.print(f"\n[bold]Question[/bold]  {QUESTION}")
    console.print("[bold]Answer[/bold]")
    console.print(answer["answer"], markup=False, highlight=False, soft_wrap=True)
    console.print("\n[bold]Sources[/bold]")
    for source in answer["sources"][:SOURCES_SHOWN]:
        place = f"{source['file']}:{source['line']}-{source['end_line']}"
        console.print(f"  {place}  {source['heading']}", markup=False, highlight=False)
    facts = f"confidence {answer['confidence']:.2f}, served by {answer['served_by']}, {seconds:.2f} s with indexing"
    console.print(f"[dim]{facts}[/dim]\n")


def _print_servers(console: Console, page: ToolPage) -> None:
    console.print("[bold]Servers[/bold]  (connected for the demo user)")
    for connection in dict.fromkeys(tool.connection for tool in page.items):
        tools = ", ".join(tool.tool for tool in page.items if tool.connection == connection)
        console.print(f"  {connection:20} {tools}", markup=False, highlight=False, soft_wrap=True)
    for missing in page.degraded:
        console.print(f"  {missing.connection:20} {missing.message}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _print_addresses(console: Console, url: str, token: Secret) -> None:
    console.print(f"[bold]API docs[/bold]      {url}/docs")
    console.print(f"[bold]MCP endpoint[/bold]  {url}/mcp")
    console.print(f"[bold]Token[/bold]         (user {DEMO_USER}, 7 days)")
    console.print(token.reveal(), markup=False, highlight=False, soft_wrap=True)
    console.print(f"\nTry it:  curl -H 'Authorization: Bearer <token>' {url}/api/v1/mcp/tools", soft_wrap=True)
    console.print("Serving; Ctrl-C stops.")

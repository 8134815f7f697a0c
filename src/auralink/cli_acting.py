"""How commands act as a user: through the typed client, with a token that is given or that the embedded mode issues."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.console import Console
from rich.table import Table

from auralink.auth.tokens import issue_token
from auralink.cli_output import show
from auralink.client import AuraLink
from auralink.core.secret import Secret
from auralink.core.settings import Settings, load_settings

SHORT = timedelta(hours=1)
User = Annotated[str, typer.Option("--user", help="act as this user (embedded mode; else AURALINK_TOKEN says who you are)")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
out = Console()


def act(user: str, work: Callable[[AuraLink], Awaitable[Any]]) -> Any:
    """Does something as a user, through the client."""
    from auralink.first_job import service_url  # the service's imports cost time that other commands need not pay

    settings = load_settings()
    token = settings.auralink_token or embedded_token(settings, user, "user", SHORT, None)

    async def acting() -> Any:
        async with AuraLink(service_url(settings), token) as client:
            return await work(client)

    return asyncio.run(acting())


def embedded_token(settings: Settings, user: str, role: Literal["user", "admin"], ttl: timedelta, email: str | None) -> Secret:
    """A token of the embedded mode's own secret."""
    from auralink.bootstrap import embedded_jwt_secret  # as above

    secret = embedded_jwt_secret(settings)
    names = {"issuer": settings.jwt_issuer, "audience": settings.jwt_audience}
    try:
        return Secret(issue_token(secret, subject=user, role=role, ttl=ttl, email=email, **names))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def json_object(text: str) -> dict[str, Any]:
    """An argument that must be a JSON object."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"this is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise typer.BadParameter('this must be a JSON object, e.g. {"name": "value"}')
    return parsed


def print_json(value: Any) -> None:
    """JSON for people and programs."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table without lines."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    show(table)

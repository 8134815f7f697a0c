"""HTTP of the authorization of connections: begun over REST, finished by the user's browser."""

from html import escape
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from auralink.auth.signed import Signed
from auralink.core.errors import NotFound
from auralink.core.http import JSONBytes
from auralink.core.idempotency import once
from auralink.mcp.oauth.schemas import Callback, StartBody, Started
from auralink.mcp.routes import SOURCE, Components
from auralink.mcp.schemas import ConnectionView

router = APIRouter(tags=["oauth"])

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width"></head>
<body style="font: 1.1rem/1.5 system-ui; max-width: 36rem; margin: 4rem auto; padding: 0 1rem"><h1>{title}</h1><p>{text}</p></body></html>
"""
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
Parameter = Annotated[str | None, Query(max_length=8192)]


@router.post("/api/v1/mcp/connections/{connection_id}/oauth/start", response_model=Started)
async def start(
    connection_id: UUID, request: Request, principal: Signed, mcp: Components, body: StartBody | None = None
) -> Response:
    """Gives the address that the connection's user opens in a browser to authorise it. Signed, if you have registered a key."""
    wish = body or StartBody()
    return await once(request, principal, lambda: mcp.connections.authorise(principal, connection_id, wish, source=SOURCE))


@router.get("/oauth/callback", response_class=HTMLResponse)
async def callback(
    request: Request,
    mcp: Components,
    state: Annotated[str, Query(max_length=512)],
    code: Parameter = None,
    iss: Parameter = None,
    error: Parameter = None,
    error_description: Parameter = None,
) -> Response:
    """Where an authorization server sends the user back to: takes the code, and says how it went (as JSON, if that is accepted)."""
    answer = Callback(state=state, code=code, iss=iss, error=error, error_description=error_description)
    view = await mcp.connections.authorised(answer, source="browser")
    if "text/html" not in request.headers.get("accept", "text/html") and "application/json" in request.headers["accept"]:
        return JSONBytes(view.model_dump(mode="json"), headers=PRIVATE)
    return HTMLResponse(_page(view), headers=PRIVATE)


@router.get("/oauth/client.json", include_in_schema=False)
async def client_document(mcp: Components) -> Response:
    """The client id metadata document: who this service is towards authorization servers that look a client up."""
    document = mcp.authorizations.client_document()
    if document is None:
        raise NotFound("this installation has no https address (AURALINK_URL), so it has no client id metadata document")
    return JSONBytes(document, headers={"Cache-Control": "public, max-age=3600"})


def _page(view: ConnectionView) -> str:
    if view.status == "active":
        return PAGE.format(
            title="Connected", text=f"The connection {escape(view.name)} is authorised. You can close this window."
        )
    reason = escape(view.last_error or "its server does not answer")
    return PAGE.format(
        title="Authorised, but not connected", text=f"The connection {escape(view.name)} is authorised, but: {reason}"
    )

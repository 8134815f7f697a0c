"""HTTP of webhooks, and the door at which events are delivered. What happens is in `service.py`."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.auth.signed import Signed
from auralink.core.http import JSONBytes
from auralink.core.idempotency import idempotently
from auralink.core.paging import Limit, decode_cursor
from auralink.runs.routes import PREFIX as RUNS
from auralink.webhooks.schemas import Taken, WebhookBody, WebhookPage, WebhookPatch, WebhookSecret, WebhookView
from auralink.webhooks.service import Webhooks
from auralink.webhooks.signatures import Delivery

router = APIRouter(prefix="/api/v1", tags=["triggers"])


async def _webhooks(request: Request) -> Webhooks:
    webhooks: Webhooks = request.app.state.webhooks
    return webhooks


Service = Annotated[Webhooks, Depends(_webhooks)]


@router.get("/webhooks")
async def list_webhooks(principal: Authenticated, webhooks: Service, limit: Limit = 50, cursor: str | None = None) -> WebhookPage:
    """Your webhooks, newest first."""
    return await webhooks.page(principal, after=decode_cursor(cursor), limit=limit)


@router.post("/webhooks", status_code=201, response_model=WebhookSecret)
async def create_webhook(body: WebhookBody, request: Request, principal: Authenticated, webhooks: Service) -> Response:
    """Has events start runs of a definition. The secret is shown this once."""
    return await _shown_once(request, principal, lambda: webhooks.create(principal, body), 201)


@router.get("/webhooks/{webhook_id}")
async def get_webhook(webhook_id: UUID, principal: Authenticated, webhooks: Service) -> WebhookView:
    """One webhook."""
    return await webhooks.get(principal, webhook_id)


@router.patch("/webhooks/{webhook_id}")
async def change_webhook(webhook_id: UUID, patch: WebhookPatch, principal: Authenticated, webhooks: Service) -> WebhookView:
    """Changes a webhook."""
    return await webhooks.change(principal, webhook_id, patch)


@router.post("/webhooks/{webhook_id}/secret", response_model=WebhookSecret)
async def renew_secret(webhook_id: UUID, request: Request, principal: Signed, webhooks: Service) -> Response:
    """Gives a webhook another secret; the old one opens nothing from now on."""
    return await _shown_once(request, principal, lambda: webhooks.renew_secret(principal, webhook_id), 200)


@router.delete("/webhooks/{webhook_id}", status_code=204)
async def remove_webhook(webhook_id: UUID, principal: Authenticated, webhooks: Service) -> None:
    """Deletes a webhook; its runs stay."""
    await webhooks.remove(principal, webhook_id)


@router.post("/hooks/{hook_id}", status_code=202, response_model=Taken)
async def deliver(hook_id: UUID, request: Request, webhooks: Service) -> Response:
    """Delivers an event, signed as Standard Webhooks says: 202 with the run that it starts, 200 where it starts none."""
    taken = await webhooks.deliver(hook_id, Delivery.of(request.headers, await request.body()))
    location = {} if taken.run_id is None else {"Location": f"{RUNS}/{taken.run_id}"}
    return JSONBytes(taken.model_dump(mode="json"), status_code=202 if taken.run_id else 200, headers=location)


async def _shown_once(
    request: Request, principal: Principal, run: Callable[[], Awaitable[WebhookSecret]], status: int
) -> Response:
    """As `once`, but what is kept for a repetition has no secret in it."""
    made: list[WebhookSecret] = []

    async def answer() -> Response:
        made.append(await run())
        return JSONBytes({**made[0].model_dump(mode="json"), "secret": None}, status_code=status)

    kept = await idempotently(request.app.state.db, principal, request, answer)
    return JSONBytes(made[0].model_dump(mode="json"), status_code=status) if made else kept

"""HTTP of models: the catalogue, keys, preferences, the choice explained, and what was measured."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.auth.signed import Signed
from auralink.core.db import Database
from auralink.core.errors import NotFound
from auralink.core.idempotency import once
from auralink.llm import store
from auralink.llm.catalogue.models import Tier
from auralink.llm.components import LLM
from auralink.llm.keys import vendor_of
from auralink.llm.preferences import PreferenceNotFound, Preferences
from auralink.llm.requests import AUTO, ModelRequest
from auralink.llm.schemas import (
    Comparison,
    Considered,
    CostRow,
    Costs,
    DefaultBody,
    FeedbackBody,
    FeedbackView,
    KeyBody,
    KeyList,
    KeyView,
    ModelFigures,
    ModelList,
    ModelView,
    PreferenceBody,
    PreferenceList,
    PreferenceView,
    ProviderList,
    Selection,
)

router = APIRouter(prefix="/api/v1/llm", tags=["models"])

Days = Annotated[int, Query(ge=1, le=366)]
Task = Annotated[str | None, Query(max_length=64)]
BYTES_OF_A_TOKEN = 4
USE_CASES = {"chat": "auto", "speed": "auto:fast", "cost": "auto:cheap", "quality": "auto:best"}


class CallNotFound(NotFound):
    """The user has made no such model call."""

    code = "model_call_not_found"
    title = "Model call not found"


def _llm(request: Request) -> LLM:
    llm: LLM = request.app.state.llm
    return llm


def _db(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


@router.get("/providers")
async def providers(request: Request, principal: Authenticated) -> ProviderList:
    """The providers, and with whose key you can use them."""
    return ProviderList(items=await _llm(request).listing.providers(principal))


@router.get("/models")
async def models(
    request: Request,
    principal: Authenticated,
    provider: str | None = None,
    tier: Tier | None = None,
    capability: str | None = None,
    available: bool | None = None,
) -> ModelList:
    """The models of the catalogue; the parameters filter them. A provider that there is not is not found."""
    every = await _llm(request).listing.models(principal)
    if provider is not None and provider not in {view.provider for view in every}:
        vendor_of(provider)
    items = [
        view
        for view in every
        if provider in (None, view.provider)
        and tier in (None, view.tier)
        and (capability is None or capability in view.capabilities)
        and available in (None, view.available)
    ]
    return ModelList(items=items)


@router.get("/models/{model_id:path}")
async def model(request: Request, principal: Authenticated, model_id: str) -> ModelView:
    """One model."""
    return await _llm(request).listing.model(principal, model_id)


@router.get("/keys")
async def keys(request: Request, principal: Authenticated) -> KeyList:
    """Your keys for providers: the last four characters of each, never more."""
    return await _llm(request).keys.all(principal)


@router.put("/keys/{provider}")
async def put_key(request: Request, principal: Signed, provider: str, body: KeyBody) -> KeyView:
    """Stores your key for a provider; it is checked with the provider first, and never shown again."""
    return await _llm(request).keys.put(principal, provider, body)


@router.delete("/keys/{provider}", status_code=204)
async def delete_key(request: Request, principal: Signed, provider: str) -> Response:
    """Deletes your key for a provider."""
    await _llm(request).keys.delete(principal, provider)
    return Response(status_code=204)


@router.get("/preferences")
async def preferences(request: Request, principal: Authenticated) -> PreferenceList:
    """The models that you prefer, in the order in which they count."""
    return PreferenceList(items=await _preferences(request).all(principal))


@router.post("/preferences", status_code=201, response_model=PreferenceView)
async def put_preference(request: Request, principal: Authenticated, body: PreferenceBody) -> Response:
    """Adds a preference, or replaces the one for the same model and task."""
    return await once(request, principal, lambda: _preferences(request).put(principal, body), 201)


@router.post("/preferences/default", status_code=201, response_model=PreferenceView)
async def put_default(request: Request, principal: Authenticated, body: DefaultBody) -> Response:
    """Sets what a request without a model means."""
    return await once(request, principal, lambda: _preferences(request).put_default(principal, body.model_id), 201)


@router.delete("/preferences/{preference_id}", status_code=204)
async def delete_preference(request: Request, principal: Authenticated, preference_id: UUID) -> Response:
    """Removes a preference and its limits."""
    if not await _preferences(request).delete(principal, preference_id):
        raise PreferenceNotFound("you have no such preference; GET /api/v1/llm/preferences lists yours")
    return Response(status_code=204)


@router.get("/select")
async def select(
    request: Request,
    principal: Authenticated,
    model: Annotated[str, Query(max_length=200)] = AUTO,
    task_type: Task = None,
    tools: bool = False,
    images: bool = False,
    json_schema: bool = False,
    tokens: Annotated[int, Query(ge=0, le=100_000_000, description="of the prompt")] = 0,
    max_tokens: Annotated[int | None, Query(ge=1, description="of the answer")] = None,
) -> Selection:
    """The model that would be taken now, why, and why not the others. Nothing is called."""
    flags = {"tools": tools, "images": images, "json_schema": json_schema}
    needs = frozenset({"chat", *(name for name, wanted in flags.items() if wanted)})
    asked = ModelRequest({}, (model,), needs, tokens * BYTES_OF_A_TOKEN, output_limit=max_tokens, task_type=task_type)  # type: ignore[arg-type]
    llm = _llm(request)
    chosen, left_out = llm.selection.explain(asked, await llm.profiles.of(principal))
    candidates = [Considered(model_id=c.model.model_id, score=c.score, reason=c.reason) for c in chosen]
    first = candidates[0] if candidates else None
    return Selection(
        requested=model,
        model_id=first.model_id if first else None,
        reason=first.reason if first else "no model is available: store a key with PUT /api/v1/llm/keys/<provider>",
        candidates=candidates,
        left_out=[Considered(model_id=left.model.model_id, reason=left.reason) for left in left_out],
    )


@router.get("/compare")
async def compare(
    request: Request,
    principal: Authenticated,
    model_ids: Annotated[str | None, Query(max_length=2000, description="comma-separated; unset: all that you have used")] = None,
    days: Days = 30,
    task_type: Task = None,
) -> Comparison:
    """How models did for you: latency, success, tokens, cost and quality side by side."""
    named = [name.strip() for name in model_ids.split(",") if name.strip()] if model_ids else None
    return Comparison(days=days, items=await _figures(request, principal, days, named, task_type))


@router.get("/costs")
async def costs(request: Request, principal: Authenticated, days: Days = 30) -> Costs:
    """What your calls cost, by day and model."""
    async with _db(request).tenant(principal) as connection:
        total, *rows = await store.costs(connection, days)
    figures = {name: total[name] for name in ("calls", "tokens", "cost_usd", "unpriced_calls")}
    return Costs(days=days, items=[CostRow.model_validate(row) for row in rows], **figures)


@router.get("/recommendations")
async def recommendations(
    request: Request,
    principal: Authenticated,
    use_case: Annotated[str, Query(description="chat, speed, cost, quality, or a task_type of your own")] = "chat",
    days: Days = 30,
) -> dict[str, Any]:
    """The three models to take for a use case: what `auto` would take, with what you have measured of them."""
    llm = _llm(request)
    asked = ModelRequest({}, (USE_CASES.get(use_case, AUTO),), frozenset({"chat"}), 0, task_type=use_case)
    chosen, _ = llm.selection.explain(asked, await llm.profiles.of(principal))
    task = None if use_case in USE_CASES else use_case
    measured = {row.model_id: row for row in await _figures(request, principal, days, None, task)}
    items = [
        {
            "model_id": choice.model.model_id,
            "reason": choice.reason,
            "score": choice.score,
            "measured": measured.get(choice.model.model_id),
        }
        for choice in chosen[:3]
    ]
    return {"use_case": use_case, "items": items}


@router.post("/performance/feedback", status_code=201, response_model=FeedbackView)
async def feedback(request: Request, principal: Authenticated, body: FeedbackBody) -> Response:
    """Says how good an answer was; comparisons show the mean."""

    async def rate() -> FeedbackView:
        async with _db(request).tenant(principal) as connection:
            rated = await store.rate(connection, body.model_dump())
        if rated is None:
            raise CallNotFound(
                f"you have made no model call {body.call_id}; the header x-auralink-call-id of an answer names its call"
            )
        return FeedbackView.model_validate(rated)

    return await once(request, principal, rate, 201)


def _preferences(request: Request) -> Preferences:
    return _llm(request).preferences


async def _figures(
    request: Request, principal: Principal, days: int, models: list[str] | None, task_type: str | None
) -> list[ModelFigures]:
    async with _db(request).tenant(principal) as connection:
        rows = await store.figures(connection, days=days, models=models, task_type=task_type)
    return [ModelFigures(**row, success_rate=_share(row["successes"], row["calls"])) for row in rows]


def _share(part: int, whole: int) -> float | None:
    return float(Decimal(part) / whole) if whole else None

"""HTTP of attempts that work elsewhere: for engines and the places to which they give attempts, with run tokens. Not for users."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from auralink.auth.dependencies import bearer_token
from auralink.auth.principal import Principal
from auralink.auth.run_tokens import RunTokens
from auralink.runs.elsewhere import Elsewhere, Places

PREFIX = "/api/v1/engine"
MAX_SAID = 500
router = APIRouter(prefix=PREFIX, tags=["engines"], include_in_schema=False)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Opening(_Body):
    """`deadline`: when the attempt's time is over, in seconds since the epoch."""

    deadline: float


class Code(_Body):
    """A one-time code."""

    code: Annotated[str, Field(min_length=1, max_length=200)]


class Said(_Body):
    """An event of the run."""

    type: Annotated[str, Field(pattern=r"^(state|log|message)$")]
    data: dict[str, Any]


class Failure(_Body):
    """How the attempt failed; `lost`: another may do better."""

    type: Annotated[str, Field(max_length=200)]
    message: str
    traceback: str = ""
    lost: bool = False


class Outcome(_Body):
    """An output or an error."""

    output: Any = None
    error: Failure | None = None


async def _places(request: Request) -> Places:
    places: Places = request.app.state.places
    return places


async def _attempt(request: Request) -> Principal:
    tokens: RunTokens = request.app.state.run_tokens
    return await tokens.verify(bearer_token(request.headers))


Service = Annotated[Places, Depends(_places)]
OfAnAttempt = Annotated[Principal, Depends(_attempt)]


@router.post("/places", status_code=201)
async def open_place(body: Opening, engine: OfAnAttempt, places: Service) -> Code:
    """Gives the attempt away: a one-time code for whoever shall do it."""
    return Code(code=(await places.open(engine, body.deadline)).reveal())


@router.get("/place")
async def look(engine: OfAnAttempt, places: Service) -> Elsewhere:
    """How the attempt does there."""
    return await places.look(engine)


@router.post("/exchange")
async def exchange(body: Code, places: Service) -> dict[str, Any]:
    """The job behind a code, once. The code is all that is asked for."""
    return await places.exchange(body.code)


@router.post("/events", status_code=204)
async def hear(body: Annotated[list[Said], Field(max_length=MAX_SAID)], place: OfAnAttempt, places: Service) -> Response:
    """What happens there; an empty list says that it lives."""
    await places.hear(place, [said.model_dump() for said in body])
    return Response(status_code=204)


@router.post("/outcome", status_code=204)
async def end(body: Outcome, place: OfAnAttempt, places: Service) -> Response:
    """What came out."""
    error = body.error
    await places.end(place, {"output": body.output} if error is None else {"error": error.model_dump()})
    return Response(status_code=204)

"""The principal as a parameter of a route, over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from auralink.auth.dependencies import Admin, Authenticated
from auralink.auth.principal import Role
from auralink.auth.tokens import TokenVerifier, issue_token
from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret

SECRET = Secret("a secret of more than thirty-two bytes, for tests")


def application() -> FastAPI:
    app = FastAPI()
    app.state.verifier = TokenVerifier(secret=SECRET)

    @app.exception_handler(AuralinkError)
    async def render(_request: Request, error: AuralinkError) -> JSONResponse:
        return JSONResponse({"code": error.code, "detail": error.message}, error.status, error.headers)

    @app.get("/me")
    async def me(principal: Authenticated) -> str:
        return principal.subject

    @app.get("/admin")
    async def admin(principal: Admin) -> str:
        return principal.subject

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=application())
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def bearer(role: Role = "user") -> str:
    return "Bearer " + issue_token(SECRET, subject="ann", role=role, ttl=timedelta(minutes=5))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_bearer_token_gives_the_principal(client: httpx2.AsyncClient, scheme: str) -> None:
    answer = await client.get("/me", headers={"Authorization": bearer().replace("Bearer", scheme)})
    assert (answer.status_code, answer.json()) == (200, "ann")


async def test_no_token_is_401_with_a_bare_challenge(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="auralink"'


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic YTpi", "Token abc", "abc"])
async def test_another_scheme_is_401(client: httpx2.AsyncClient, value: str) -> None:
    answer = await client.get("/me", headers={"Authorization": value})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_two_authorization_headers_are_401(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/me", headers=[("Authorization", bearer()), ("Authorization", bearer("admin"))])
    assert answer.status_code == 401


async def test_a_token_in_the_query_is_not_read(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/me", params={"access_token": bearer().removeprefix("Bearer ")})
    assert answer.status_code == 401


async def test_a_bad_token_is_401_and_says_so_in_the_challenge(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/me", headers={"Authorization": bearer() + "x"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert 'error="invalid_token", error_description="' in answer.headers["WWW-Authenticate"]
    assert bearer()[10:40] not in answer.text


async def test_an_admin_route_admits_admins_only(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/admin", headers={"Authorization": bearer("admin")})).status_code == 200
    assert (await client.get("/admin", headers={"Authorization": bearer()})).status_code == 403
    assert (await client.get("/admin")).status_code == 401


async def test_the_api_description_names_the_bearer_scheme(client: httpx2.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert description["paths"]["/me"]["get"]["security"] == [{"HTTPBearer": []}]
    assert "parameters" not in description["paths"]["/me"]["get"]

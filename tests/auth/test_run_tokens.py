"""Run tokens: what they open, and for how long."""

import time
from datetime import timedelta
from uuid import uuid4

import jwt
import pytest

from auralink.auth.errors import TokenExpired, TokenInvalid
from auralink.auth.run_tokens import AUDIENCE, ISSUER, EitherToken, RunTokens
from auralink.auth.tokens import TokenVerifier, issue_token
from auralink.core.secret import Secret

pytestmark = pytest.mark.promise("P-JWT")
KEY = b"k" * 32
SECRET = Secret("s" * 40)


async def test_a_run_token_says_whose_run_and_which_attempt() -> None:
    user, run = uuid4(), uuid4()
    principal = await RunTokens(KEY).verify(RunTokens(KEY).issue(user_id=user, run=run, attempt=3, seconds=60).reveal())
    assert (principal.user_id, principal.run, principal.attempt, principal.role) == (user, run, 3, "user")
    assert principal.scopes == frozenset()


async def test_it_is_worth_nothing_after_its_time_or_with_another_key() -> None:
    token = RunTokens(KEY).issue(user_id=uuid4(), run=uuid4(), attempt=1, seconds=60).reveal()
    with pytest.raises(TokenExpired):
        await RunTokens(KEY, clock=lambda: time.time() + 120).verify(token)
    with pytest.raises(TokenInvalid):
        await RunTokens(b"x" * 32).verify(token)


@pytest.mark.parametrize("change", [{"aud": "auralink"}, {"iss": "auralink"}, {"run": None}, {"sub": "x"}, {"attempt": "many"}])
async def test_every_claim_is_checked(change: dict[str, object]) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(uuid4()), "run": str(uuid4()), "attempt": 1, "exp": time.time() + 60}
    forged = {name: value for name, value in {**claims, **change}.items() if value is not None}
    with pytest.raises(TokenInvalid):
        await RunTokens(KEY).verify(jwt.encode(forged, KEY, algorithm="HS256"))


async def test_the_gateways_take_both_kinds_and_rest_takes_users_only() -> None:
    users, runs = TokenVerifier(secret=SECRET), RunTokens(KEY)
    either = EitherToken(users, runs)
    of_run = runs.issue(user_id=uuid4(), run=uuid4(), attempt=1, seconds=60).reveal()
    of_user = issue_token(SECRET, subject="u", role="admin", ttl=timedelta(minutes=1))
    assert (await either.verify(of_run)).run is not None
    assert (await either.verify(of_user)).role == "admin"
    for token in (of_run, jwt.encode({"typ": "nothing"}, KEY, algorithm="HS256")):
        with pytest.raises(TokenInvalid):
            await users.verify(token)
    with pytest.raises(TokenInvalid):
        await either.verify("no token")

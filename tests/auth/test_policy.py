"""Roles and scopes."""

from dataclasses import replace
from uuid import uuid4

import pytest

from auralink.auth.errors import InsufficientScope
from auralink.auth.policy import require_admin, require_scope
from auralink.auth.principal import Principal
from auralink.core.errors import Forbidden

USER = Principal(uuid4(), "ann", "i", None, "user", frozenset({"tools:call"}))
ADMIN = replace(USER, role="admin")


def test_an_admin_may_administer() -> None:
    require_admin(ADMIN)


@pytest.mark.parametrize("principal", [USER, replace(ADMIN, run=uuid4(), attempt=1)], ids=["user", "run of an admin"])
def test_nobody_else_may_administer(principal: Principal) -> None:
    with pytest.raises(Forbidden) as caught:
        require_admin(principal)
    assert (caught.value.status, caught.value.code) == (403, "forbidden")


def test_a_scope_that_the_token_carries_passes() -> None:
    require_scope(USER, "tools:call")


@pytest.mark.parametrize("principal", [USER, ADMIN], ids=["user", "admin"])
def test_a_scope_that_the_token_lacks_is_named_in_message_and_challenge(principal: Principal) -> None:
    with pytest.raises(InsufficientScope, match="keys:write") as caught:
        require_scope(principal, "keys:write")
    assert caught.value.status == 403
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer realm="auralink", error="insufficient_scope", scope="keys:write"'

"""The principal: frozen, stable ids, and for whom the current task acts."""

import asyncio
from dataclasses import FrozenInstanceError
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralink.auth.principal import Principal, acting_as, current_principal, user_id_of

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def principal(subject: str = "ann") -> Principal:
    return Principal(user_id_of("i", subject), subject, "i", None, "user", frozenset())


def test_a_principal_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        principal().role = "admin"  # type: ignore[misc]


@pytest.mark.parametrize("spell", [str, lambda u: str(u).upper()])
def test_a_subject_that_is_a_uuid_is_the_user_id(spell) -> None:
    user = uuid4()
    assert user_id_of("anyone", spell(user)) == user


@pytest.mark.parametrize("form", ["{%s}", "urn:uuid:%s", " %s", "%s\n"])
def test_other_spellings_of_a_uuid_are_names_and_meet_nobody(form: str) -> None:
    user = uuid4()
    assert user_id_of("i", form % user) != user
    assert user_id_of("i", user.hex) != user


def test_the_id_of_a_named_subject_never_changes() -> None:
    assert user_id_of("auralink", "ann") == UUID("39e5e0e1-ae82-5aec-b214-27808a738fc0")


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@patient
@given(names, names, names, names)
def test_two_pairs_of_issuer_and_subject_never_share_an_id(a: str, b: str, c: str, d: str) -> None:
    assert (user_id_of(a, b) == user_id_of(c, d)) == ((a, b) == (c, d))


def test_issuer_and_subject_do_not_flow_into_each_other() -> None:
    assert user_id_of("a", "bc") != user_id_of("ab", "c")


async def test_each_task_acts_for_its_own_principal() -> None:
    both_inside = asyncio.Barrier(2)

    async def act(subject: str) -> str:
        with acting_as(principal(subject)):
            await both_inside.wait()
            return current_principal().subject

    assert await asyncio.gather(act("ann"), act("bob")) == ["ann", "bob"]


def test_outside_a_call_nobody_acts() -> None:
    with acting_as(principal()):
        pass
    with pytest.raises(LookupError):
        current_principal()

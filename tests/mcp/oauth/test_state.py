"""A state is taken back only as it was given."""

from uuid import uuid4

import pytest

from auralink.mcp.oauth.errors import StateInvalid
from auralink.mcp.oauth.state import State, States

STATE = State(uuid4(), uuid4(), uuid4())
KEY = bytes(32)


def test_a_state_comes_back_as_it_went_out() -> None:
    assert States(KEY).read(States(KEY).sign(STATE)) == STATE


def test_every_changed_character_is_noticed() -> None:
    given = States(KEY).sign(STATE)
    for place, character in enumerate(given):
        changed = given[:place] + ("B" if character == "A" else "A") + given[place + 1 :]
        with pytest.raises(StateInvalid):
            States(KEY).read(changed)


@pytest.mark.parametrize("text", ["", "*" * 107, "A" * 107, "A" * 106, "é" * 107])
def test_what_was_never_given_is_refused(text: str) -> None:
    with pytest.raises(StateInvalid, match="start the authorization again"):
        States(KEY).read(text)


def test_a_state_of_another_installation_is_refused() -> None:
    with pytest.raises(StateInvalid):
        States(KEY).read(States(b"k" * 32).sign(STATE))

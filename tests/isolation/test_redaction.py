"""The mask over a connection's secrets, spelling by spelling."""

import orjson
import pytest

from auralink.core.redaction import Redactor
from auralink.core.secret import Secret
from auralink.mcp.upstream.errors import UpstreamBadAnswer

pytestmark = pytest.mark.promise("P-SECRET")

SECRET = 'sk-a b"c/d+e\\f%é'
REDACTOR = Redactor([Secret(SECRET), Secret("another one")])


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        "sk-a%20b%22c/d%2Be%5Cf%25%C3%A9",
        "sk-a%20b%22c%2Fd%2Be%5Cf%25%C3%A9",
        "sk-a+b%22c%2Fd%2Be%5Cf%25%C3%A9",
        orjson.dumps(SECRET).decode()[1:-1],
        repr(SECRET)[1:-1],
    ],
)
def test_a_secret_is_masked_in_each_spelling(spelling: str) -> None:
    assert REDACTOR.text(f"before {spelling} after") == "before *** after"


def test_every_secret_is_masked_at_every_place_of_json_data() -> None:
    data = {SECRET: [SECRET, {"deep": f"Bearer {SECRET}"}], "number": 1, "other": "another one", "nothing": None}
    assert REDACTOR.data(data) == {"***": ["***", {"deep": "Bearer ***"}], "number": 1, "other": "***", "nothing": None}


def test_an_error_is_cleaned_in_all_that_it_shows() -> None:
    error = UpstreamBadAnswer(f"rejected: {SECRET}", sent=True)
    error.extra["said"] = SECRET
    REDACTOR.clean(error)
    assert (str(error), error.message, error.extra) == ("rejected: ***", "rejected: ***", {"said": "***"})


def test_a_short_secret_does_not_turn_words_into_masks() -> None:
    assert Redactor([Secret("a"), Secret("")]).text("a banana") == "a banana"


def test_a_redactor_does_not_print_what_it_hides() -> None:
    assert SECRET not in repr(REDACTOR)

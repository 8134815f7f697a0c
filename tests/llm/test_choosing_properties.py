"""P-SELECT, for any state of the world: the choice is deterministic and fit; and any body is read or refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralink.core.secret import Secret
from auralink.llm.accounts import Account
from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.packaged import packaged
from auralink.llm.health import UNMEASURED, Health
from auralink.llm.local import LocalModels
from auralink.llm.profiles import Preference, Profile
from auralink.llm.requests import InvalidModelRequest, ModelRequest, chat_request
from auralink.llm.selection import WEIGHTS, Selection
from tests.llm.conftest import FORMATS

pytestmark = pytest.mark.promise("P-SELECT")

ALL_MODELS = tuple(packaged().models)


class _Models:
    current = Catalogue(ALL_MODELS)


class _Health:
    def __init__(self, figures: Mapping[str, Health]) -> None:
        self._figures = figures

    def of(self, model_id: str) -> Health:
        return self._figures.get(model_id, UNMEASURED)


NAMES = st.sampled_from([model.model_id for model in ALL_MODELS])
COUNTS = st.integers(0, 50)
FIGURES = st.builds(lambda calls, good, p50: Health(calls, min(calls, good), p50), COUNTS, COUNTS, st.floats(1, 1e5))
NEEDS = st.frozensets(st.sampled_from(["tools", "images", "json_schema", "streaming"])).map(lambda needs: needs | {"chat"})
PREFERENCES = st.lists(st.builds(Preference, NAMES, st.integers(-5, 5), st.sampled_from([None, "summary"])), max_size=4)


@given(
    figures=st.dictionaries(NAMES, FIGURES, max_size=6),
    needs=NEEDS,
    preferences=PREFERENCES,
    size=st.integers(0, 10**7),
    kind=st.sampled_from(list(WEIGHTS)),
    providers=st.frozensets(st.sampled_from(FORMATS), min_size=1),
)
def test_the_same_question_has_the_same_answer_and_only_fit_models_in_it(
    figures: dict[str, Health], needs: Any, preferences: list[Preference], size: int, kind: str, providers: frozenset[str]
) -> None:
    accounts = {name: Account("https://vendor.example", Secret("sk-x")) for name in providers}
    request = ModelRequest({}, (kind,), needs, size, task_type="summary")
    profile = Profile(preferences=tuple(preferences))

    def chosen() -> list[tuple[str, str]]:
        selection = Selection(_Models(), accounts, _Health(figures), LocalModels())  # type: ignore[arg-type]
        candidates, left_out = selection.explain(request, profile)
        models = [candidate.model for candidate in candidates]
        assert all(needs <= model.capabilities and model.provider in providers and not model.deprecated for model in models)
        assert not {model.model_id for model in models} & {left.model.model_id for left in left_out}
        assert len({model.model_id for model in models}) == len(models)
        return [(candidate.model.model_id, candidate.reason) for candidate in candidates]

    assert chosen() == chosen()


WORDS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["model", "messages", "tools", "n", "max_tokens", "stream_options", "response_format", "metadata", "functions"]
MESSAGE = st.fixed_dictionaries({"role": st.just("user")}, optional={"content": JSON, "name": JSON, "tool_calls": JSON})


@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), messages=st.lists(MESSAGE, max_size=2) | JSON)
def test_a_body_is_read_or_refused_and_never_breaks_the_reader(body: dict[str, Any], messages: Any) -> None:
    try:
        request = chat_request({**body, "messages": messages})
    except InvalidModelRequest:
        return
    assert request.size >= 0
    assert request.answers >= 1
    json.dumps(request.requested)

"""Which model takes a request (P-SELECT): the one that was named, or for `auto` the best of those that can and may.

`auto` filters by what the request needs (tools, images, JSON schema, room for the prompt) and by keys, then orders by the user's
preferences, then by a score between 0 and 1:

    score = success rate of the last 24 h * (weights of quality, price and speed, each between 0 and 1)

quality is the tier's (0.4 fast, 0.7 standard, 1 advanced); price is 1 / (1 + USD per million tokens / 2), three prompt tokens to
one of the answer; speed is 1 / (1 + measured median latency / 3 s), 0.5 where nothing was measured. The weights are those of
`WEIGHTS`. docs/explanation/selection.md shows an example.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from auralink.core.secret import Secret
from auralink.llm.accounts import Accounts
from auralink.llm.catalogue.builtin import OFFLINE
from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.service import Models
from auralink.llm.errors import KeyMissing, ModelNotFound, NoModelAvailable
from auralink.llm.health import HealthBoard
from auralink.llm.local import LocalModels
from auralink.llm.profiles import Profile, StoredKey
from auralink.llm.providers.protocol import Target
from auralink.llm.providers.vendors import VENDORS
from auralink.llm.requests import AUTO, ModelRequest

KeySource = Literal["own", "operator", "none"]
QUALITY = {"fast": 0.4, "standard": 0.7, "advanced": 1.0}
WEIGHTS = {
    "auto": (0.45, 0.35, 0.20),
    "auto:fast": (0.15, 0.15, 0.70),
    "auto:cheap": (0.10, 0.85, 0.05),
    "auto:best": (0.90, 0.02, 0.08),
}
"""Of quality, price and speed, for each kind of `auto`."""
PRICE_PIVOT = 2.0
"""USD per million tokens at which the price counts half."""
LATENCY_PIVOT = 3000.0
"""Milliseconds at which the speed counts half."""
UNMEASURED_SPEED = 0.5
UNKNOWN_PRICE = 0.0
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that may take a request, whose key reaches it, and why it stands where it does."""

    model: Model
    reason: str
    key_source: KeySource
    own_key: StoredKey | None = None
    operator_key: Secret | None = None
    base_url: str = ""
    score: float | None = None

    @property
    def is_local(self) -> bool:
        """Whether the model is a program of ours."""
        return self.key_source == "none" and not self.base_url

    def target(self, key: Secret | None) -> Target:
        """Where its requests go, with an opened key."""
        return Target(self.model.provider, self.model.name, self.base_url, key)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model that `auto` cannot take, and why."""

    model: Model
    reason: str


class Selection:
    """Chooses."""

    def __init__(self, models: Models, accounts: Accounts, health: HealthBoard, local: LocalModels) -> None:
        self._models = models
        self._accounts = accounts
        self._health = health
        self._local = local

    @property
    def catalogue(self) -> Catalogue:
        """All models there are."""
        return self._models.current

    def choices(self, request: ModelRequest, profile: Profile) -> list[Choice]:
        """The models to try, in order; there is at least one.

        Raises:
            ModelNotFound: a named model does not exist.
            KeyMissing: nobody has a key for the only model named.
            NoModelAvailable: no model can and may take the request.
        """
        names = request.models or (profile.default_model or AUTO,)
        chosen: dict[str, Choice] = {}
        for name in names:
            found = self._automatic(name, request, profile) if is_automatic(name) else self._named(name, profile, len(names) > 1)
            for choice in found:
                chosen.setdefault(choice.model.model_id, choice)
        if not chosen:
            raise self._nothing(names, request, profile)
        return list(chosen.values())

    def explain(self, request: ModelRequest, profile: Profile) -> tuple[list[Choice], list[LeftOut]]:
        """What `choices` would give for `auto`, and what it leaves out and why."""
        name = request.models[0] if request.models else (profile.default_model or AUTO)
        if not is_automatic(name):
            return list(self._named(name, profile, False)), []
        left_out = [
            LeftOut(model, reason)
            for model in self.catalogue
            if (reason := self._unfit(model, request) or self._unreachable(model, profile))
        ]
        return self._automatic(name, request, profile), left_out

    def reachable(self, model: Model, profile: Profile, reason: str = "named", score: float | None = None) -> Choice | None:
        """The model with the key that reaches it: the user's own before the operator's."""
        if self._local.has(model):
            return Choice(model, reason, "none", score=score)
        vendor = VENDORS.get(model.provider)
        if vendor is None:
            return None
        if (own := profile.keys.get(model.provider)) is not None:
            return Choice(model, reason, "own", own_key=own, base_url=own.base_url or vendor.base_url, score=score)
        account = self._accounts.get(model.provider)
        if account is not None:
            return Choice(
                model, reason, "operator", operator_key=account.key, base_url=account.base_url or vendor.base_url, score=score
            )
        return None

    def find(self, name: str) -> Model:
        """The model of that name: in the catalogue, or `provider/name` of a provider that may have models we do not know.

        Raises:
            ModelNotFound
        """
        if (known := self.catalogue.find(name)) is not None:
            return known
        provider, slash, own_name = name.partition("/")
        if slash and own_name and provider in VENDORS:
            capabilities = frozenset({"chat", "tools", "images", "json_schema", "streaming", "reasoning", "embeddings"})
            return Model(name, provider, own_name, own_name, "standard", capabilities)  # type: ignore[arg-type]
        raise ModelNotFound(
            f"there is no model {name[:100]!r} here; GET /v1/models lists those that you can use, <provider>/<name> reaches any "
            f"model of {', '.join(VENDORS)}",
            extra={"param": "model"},
        )

    def is_known(self, model_id: str) -> bool:
        """Whether the installation knows a model of that id."""
        return self.catalogue.find(model_id) is not None

    @staticmethod
    def check_automatic(name: str) -> None:
        """Refuses a form of `auto` that there is not. Raises `ModelNotFound`."""
        if is_automatic(name) and name not in WEIGHTS:
            raise ModelNotFound(f"there is no {name[:100]!r}; choose one of {', '.join(WEIGHTS)}", extra={"param": "model"})

    def _named(self, name: str, profile: Profile, is_list: bool) -> Iterator[Choice]:
        model = self.find(name)
        choice = self.reachable(model, profile, "first of the list that may" if is_list else "named")
        if choice is not None:
            yield choice
        elif not is_list:
            raise _key_missing(model.provider, model.model_id)

    def _automatic(self, name: str, request: ModelRequest, profile: Profile) -> list[Choice]:
        """Every model that can and may take the request, the best first."""
        self.check_automatic(name)
        weights = WEIGHTS[name]
        found = []
        for model in self.catalogue:
            if self._unfit(model, request) is None:
                score, why = self._score(model, weights)
                choice = self.reachable(model, profile, f"{name}: {why}", score)
                if choice is not None:
                    found.append(choice)
        found.sort(key=lambda choice: (-(choice.score or 0), choice.model.model_id))
        if not found and request.needs <= OFFLINE.capabilities and not (profile.keys or self._accounts):
            return [Choice(OFFLINE, f"{name}: no key for any model that can, so the offline model answers", "none")]
        return self._preferred(name, request, profile, found)

    def _preferred(self, name: str, request: ModelRequest, profile: Profile, found: list[Choice]) -> list[Choice]:
        """The choices with those that the user prefers in front, a preference for the task before one for any."""
        wanted = [p for p in profile.preferences if p.task_type in (None, request.task_type)]
        wanted.sort(key=lambda preference: (preference.task_type is None, -preference.priority))
        by_id = {choice.model.model_id: choice for choice in found}
        ahead: dict[str, Choice] = {}
        for preference in wanted:
            if (choice := by_id.get(preference.model_id)) is not None and preference.model_id not in ahead:
                reason = f"{name}: preferred (priority {preference.priority})"
                ahead[preference.model_id] = self._because(choice, reason)
        return [*ahead.values(), *(choice for choice in found if choice.model.model_id not in ahead)]

    @staticmethod
    def _because(choice: Choice, reason: str) -> Choice:
        return Choice(choice.model, reason, choice.key_source, choice.own_key, choice.operator_key, choice.base_url, choice.score)

    def _unfit(self, model: Model, request: ModelRequest) -> str | None:
        """Why a model cannot take a request; None if it can."""
        if self._local.has(model):
            return "a program and no language model; taken where there is no key for any, or when it is named"
        if model.deprecated:
            return "deprecated; taken only when it is named"
        if missing := request.needs - model.capabilities:
            return f"cannot do {', '.join(sorted(missing))}"
        room = request.likely_tokens + (request.output_limit or 0)
        if model.context_window is not None and room > model.context_window:
            return f"has room for {model.context_window} tokens, and about {room} are needed"
        if model.max_output is not None and (request.output_limit or 0) > model.max_output:
            return f"answers with up to {model.max_output} tokens, and {request.output_limit} are asked for"
        return None

    def _unreachable(self, model: Model, profile: Profile) -> str | None:
        return None if self.reachable(model, profile) else f"no key for {model.provider}"

    def _score(self, model: Model, weights: tuple[float, float, float]) -> tuple[float, str]:
        """The score of a model and what it is made of; see the head of this file."""
        health = self._health.of(model.model_id)
        quality, price, speed = QUALITY[model.tier], _price_score(model), _speed_score(health.p50_ms)
        weighted = sum(weight * part for weight, part in zip(weights, (quality, price, speed), strict=True))
        score = health.success_rate * weighted
        measured = f"{health.p50_ms:.0f} ms" if health.p50_ms is not None else "unmeasured"
        return (
            score,
            f"score {score:.3f} (tier {model.tier}, {_price_words(model)}, {measured}, success {health.success_rate:.2f})",
        )

    def _nothing(self, names: tuple[str, ...], request: ModelRequest, profile: Profile) -> NoModelAvailable:
        named = [model for name in names if not is_automatic(name) for model in (self.find(name),)]
        if named:
            why = f"nobody has a key for {', '.join(sorted({model.provider for model in named}))}"
        else:
            fit = [model for model in self.catalogue if self._unfit(model, request) is None]
            providers = sorted({model.provider for model in fit})
            needs = ", ".join(sorted(request.needs))
            why = (
                f"those that can do {needs} are at {', '.join(providers[:SHOWN])}"
                if fit
                else f"none can do {needs} at this length"
            )
        return NoModelAvailable(
            f"no model is available for {', '.join(names)}: {why}; store a key with PUT /api/v1/llm/keys/<provider>, and "
            "GET /api/v1/llm/select explains the choice"
        )


def is_automatic(name: str) -> bool:
    """Whether a name leaves the choice to us."""
    return name == AUTO or name.startswith(AUTO + ":")


def _key_missing(provider: str, model_id: str) -> KeyMissing:
    variable = VENDORS[provider].key_variable
    return KeyMissing(
        f"{model_id} cannot be used: you have stored no key for {provider} (PUT /api/v1/llm/keys/{provider}), and the operator "
        f"has set none ({variable})",
        extra={"provider": provider, "model": model_id},
    )


def _blended(model: Model) -> float | None:
    """USD per million tokens, three of the prompt to one of the answer."""
    if model.input_usd is None or model.output_usd is None:
        return None
    return float((3 * model.input_usd + model.output_usd) / Decimal(4))


def _price_score(model: Model) -> float:
    blended = _blended(model)
    return UNKNOWN_PRICE if blended is None else 1 / (1 + blended / PRICE_PIVOT)


def _speed_score(p50_ms: float | None) -> float:
    return UNMEASURED_SPEED if p50_ms is None else 1 / (1 + p50_ms / LATENCY_PIVOT)


def _price_words(model: Model) -> str:
    blended = _blended(model)
    return "price unknown" if blended is None else f"{blended:.2f} USD per million tokens"

"""Which models and providers there are, and which of them a user can use."""

from typing import Any

from auralink.auth.principal import Principal
from auralink.llm.accounts import Accounts
from auralink.llm.catalogue.models import Model
from auralink.llm.profiles import Profile, Profiles
from auralink.llm.providers.vendors import VENDORS
from auralink.llm.schemas import ModelView, ProviderView
from auralink.llm.selection import WEIGHTS, Selection

CREATED = 1_700_000_000
"""The field is required of a model, and says nothing: the catalogue knows no dates."""


class Listing:
    """Answers questions about the catalogue."""

    def __init__(self, selection: Selection, profiles: Profiles, accounts: Accounts) -> None:
        self._selection = selection
        self._profiles = profiles
        self._accounts = accounts

    async def for_openai(self, principal: Principal) -> list[dict[str, Any]]:
        """The models that the user can use, `auto` first, in the OpenAI shape."""
        profile = await self._profiles.of(principal)
        usable = [model for model in self._selection.catalogue if self._selection.reachable(model, profile) is not None]
        automatic = [{"id": name, "object": "model", "created": CREATED, "owned_by": "auralink"} for name in WEIGHTS]
        return automatic + [_openai_model(model) for model in usable]

    async def one_for_openai(self, principal: Principal, name: str) -> dict[str, Any]:
        """One model in the OpenAI shape. Raises `ModelNotFound`."""
        for listed in await self.for_openai(principal):
            if listed["id"] == name:
                return listed
        return _openai_model(self._selection.find(name))

    async def models(self, principal: Principal) -> list[ModelView]:
        """Every model, with whether the user can use it."""
        profile = await self._profiles.of(principal)
        return [self._view(model, profile) for model in self._selection.catalogue]

    async def model(self, principal: Principal, name: str) -> ModelView:
        """One model. Raises `ModelNotFound`."""
        return self._view(self._selection.find(name), await self._profiles.of(principal))

    async def providers(self, principal: Principal) -> list[ProviderView]:
        """Every provider, with whose key reaches it."""
        profile = await self._profiles.of(principal)
        return [self._provider(vendor_id, profile) for vendor_id in VENDORS]

    def _view(self, model: Model, profile: Profile) -> ModelView:
        return ModelView(
            model_id=model.model_id,
            provider=model.provider,
            name=model.name,
            title=model.title,
            tier=model.tier,
            capabilities=sorted(model.capabilities),
            context_window=model.context_window,
            max_output=model.max_output,
            input_usd=model.input_usd,
            output_usd=model.output_usd,
            cached_input_usd=model.cached_input_usd,
            deprecated=model.deprecated,
            available=self._selection.reachable(model, profile) is not None,
        )

    def _provider(self, vendor_id: str, profile: Profile) -> ProviderView:
        vendor, own, account = VENDORS[vendor_id], profile.keys.get(vendor_id), self._accounts.get(vendor_id)
        return ProviderView(
            provider=vendor_id,
            title=vendor.title,
            wire_format=vendor.wire_format,
            base_url=(own and own.base_url) or vendor.base_url,
            key="own" if own else "operator" if account else None,
            models=sum(model.provider == vendor_id for model in self._selection.catalogue),
        )


def _openai_model(model: Model) -> dict[str, Any]:
    return {"id": model.model_id, "object": "model", "created": CREATED, "owned_by": model.provider}

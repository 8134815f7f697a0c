"""The catalogue in memory: made once, replaced as a whole when it changes, asked on every call."""

from collections.abc import Iterable, Iterator

from auralink.llm.catalogue.models import Model
from auralink.llm.providers.vendors import VENDORS

PREFERENCE = {vendor_id: place for place, vendor_id in enumerate(VENDORS)}
"""Who is taken where a bare name is several providers': the maker of the model before its hosts, in the order of the vendors."""


class Catalogue:
    """An immutable set of models, found by id or by name."""

    def __init__(self, models: Iterable[Model]) -> None:
        """The last of two models with one id counts."""
        self._by_id = {model.model_id: model for model in models}
        self._by_name: dict[str, Model] = {}
        for model in sorted(self._by_id.values(), key=_preference, reverse=True):
            self._by_name |= dict.fromkeys((model.name, *model.aliases), model)
        self._in_order = tuple(sorted(self._by_id.values(), key=_preference))

    def get(self, model_id: str) -> Model | None:
        """The model of this id."""
        return self._by_id.get(model_id)

    def find(self, name: str) -> Model | None:
        """The model called `provider/name`, else the one that a provider calls `name`; of several, the preferred vendor's.

        An alias is as good as a name.
        """
        if found := self._by_id.get(name) or self._by_name.get(name):
            return found
        provider, _, alias = name.partition("/")
        found = self._by_name.get(alias)
        return found if found is not None and found.provider == provider else None

    def __iter__(self) -> Iterator[Model]:
        """All models, by vendor in the order of preference, then by name."""
        return iter(self._in_order)

    def __len__(self) -> int:
        return len(self._by_id)


def _preference(model: Model) -> tuple[int, str, str]:
    return PREFERENCE.get(model.provider, len(PREFERENCE)), model.provider, model.name

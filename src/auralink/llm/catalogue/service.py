"""The catalogue of a running service: what the package brings along, what was synchronised since, and what the operator adds."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from auralink.core.db import Database
from auralink.llm.catalogue import store
from auralink.llm.catalogue.builtin import OFFLINE, PROVIDER, SCRIPTED, TITLE
from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.config import CatalogueConfig, added_by, with_configured
from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.packaged import packaged
from auralink.llm.providers.vendors import VENDORS


class Models:
    """Holds the catalogue that calls are made with; `current` is replaced as a whole."""

    def __init__(self, db: Database, config: CatalogueConfig, *, scripted: bool = False) -> None:
        """`scripted`: there is a script for the scripted model."""
        self._db = db
        self._config = config
        self._built_in = (OFFLINE, SCRIPTED) if scripted else (OFFLINE,)
        self.current = Catalogue(self._built_in)

    async def open(self) -> None:
        """Merges the packaged models and the operator's into the tables, once; and reads the catalogue."""
        brought = packaged()
        async with self._db.system() as connection:
            await store.put_providers(connection, _providers())
            await store.put_models(connection, [*brought.models, OFFLINE], "package", brought.as_of, unless_newer=True)
            known = {model.model_id for model in brought.models}
            added = added_by(self._config, known)
            await store.disable_unconfigured(connection, [model.model_id for model in added])
            await store.put_models(connection, added, "config", _today())
        await self.reload()

    async def reload(self) -> None:
        """Reads the catalogue anew: prices that were synchronised or have become due since."""
        async with self._db.system() as connection:
            self.current = self._merged(await store.models(connection))

    def _merged(self, found: Iterable[Model]) -> Catalogue:
        today = _today()
        return with_configured(Catalogue([*(model.on(today) for model in found), *self._built_in]), self._config)


def _providers() -> list[dict[str, Any]]:
    own = {"provider": PROVIDER, "title": TITLE, "wire_format": "built_in", "base_url": None, "self_hosted": True}
    others = (
        {
            "provider": vendor.vendor_id,
            "title": vendor.title,
            "wire_format": vendor.wire_format,
            "base_url": vendor.base_url,
            "self_hosted": vendor.self_hosted,
        }
        for vendor in VENDORS.values()
    )
    return [own, *others]


def _today() -> date:
    return datetime.now(UTC).date()

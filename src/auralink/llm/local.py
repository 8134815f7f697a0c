"""The models that are programs of ours: `auralink/offline`, for when there is no key at all, and for tests `auralink/scripted`.

They answer at once, cost nothing, and say in every answer what they are.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from auralink.llm.catalogue.builtin import OFFLINE, SCRIPTED
from auralink.llm.catalogue.models import Model
from auralink.llm.offline import complete as complete_offline
from auralink.llm.providers.protocol import Body
from auralink.llm.scripted import Script


class LocalModels:
    """The local models that this installation has."""

    def __init__(self, script: Script | None = None) -> None:
        self._script = script
        self._programs = {OFFLINE.model_id: complete_offline} | ({SCRIPTED.model_id: script.complete} if script else {})

    def has(self, model: Model) -> bool:
        """Whether a model is local."""
        return model.model_id in self._programs

    async def complete(self, model: Model, body: Mapping[str, Any]) -> Body:
        """A chat completion, computed beside the event loop. A script may take its time, and fail as a provider does."""
        if self._script is not None and model.model_id == SCRIPTED.model_id:
            await asyncio.sleep(self._script.delay(body))
        return await asyncio.to_thread(self._programs[model.model_id], body)

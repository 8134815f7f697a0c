"""The seam to an embedding provider. Without one, search goes by words alone."""

from collections.abc import Sequence
from typing import Protocol

from auralink.auth.principal import Principal


class Embedder(Protocol):
    """Turns texts into vectors of one length."""

    @property
    def model(self) -> str:
        """Which model; vectors of different models are never compared."""

    async def embed(self, principal: Principal, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in order.

        Raises:
            EmbeddingFailed: the provider did not answer.
        """

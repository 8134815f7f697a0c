"""Keeps the secrets of a call out of what a server or provider says about itself and its failures (P-SECRET).

It may quote the credential it was sent. What a tool or model answers is the user's and passes untouched; errors, descriptions and
names go on into messages, the operation log, metrics and tables, and are cleaned first.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret

MASK = "***"
SHORTEST = 6
"""Characters; what is shorter hides in ordinary words, and masking those words would hide nothing."""


class Redactor:
    """Masks the given secrets, also as a URL or a JSON string would spell them."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._secrets = list(secrets)
        self._spell()

    def _spell(self) -> None:
        values = [secret.reveal() for secret in self._secrets]
        spellings = {form for value in values if len(value) >= SHORTEST for form in _spellings(value)}
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __repr__(self) -> str:
        return "Redactor(***)"

    def replace(self, old: Secret | None, new: Secret) -> None:
        """Masks a renewed secret from now on, and the one before the last no longer."""
        self._secrets = [*(secret for secret in self._secrets if secret != old), new]
        self._spell()

    def text(self, text: str) -> str:
        """The text with each secret masked."""
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        return text

    def data(self, value: Any) -> Any:
        """JSON data with each secret masked, in keys as well."""
        if not self._spellings:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.data(key): self.data(item) for key, item in value.items()}
        return [self.data(item) for item in value] if isinstance(value, list) else value

    def clean(self, error: AuralinkError) -> None:
        """Masks the secrets in an error's message and extra fields, in place."""
        error.message = self.text(error.message)
        error.args = (error.message,)
        error.extra = self.data(error.extra)


NOTHING_TO_HIDE = Redactor()


def _spellings(value: str) -> set[str]:
    return {value, quote(value), quote(value, safe=""), quote_plus(value), orjson.dumps(value).decode()[1:-1], repr(value)[1:-1]}

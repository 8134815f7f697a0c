"""Errors of the model gateway. Each names provider, model and cause; `/v1` renders them in the OpenAI error shape."""

from typing import Any, ClassVar

from auralink.core.errors import AuralinkError, InvalidRequest, NotFound


class ModelNotFound(NotFound):
    """There is no such model here."""

    code = "model_not_found"
    title = "Model not found"


class NoModelAvailable(AuralinkError):
    """No model meets the request with the keys and budgets at hand."""

    code = "no_model_available"
    status = 503
    title = "No model available"


class UnsupportedField(InvalidRequest):
    """The chosen provider cannot honour a field of the request; it is refused by name, never dropped. Where `provider` is the path
    of an endpoint of ours, no model would."""

    code = "unsupported_field"
    status = 400
    title = "Field not supported by the provider"

    def __init__(self, field: str, provider: str, reason: str = "") -> None:
        because = f" ({reason})" if reason else ""
        remedy = "leave it out" if provider.startswith("/") else "leave it out or choose another model"
        super().__init__(f"{provider} cannot honour the field {field!r}{because}; {remedy}", extra={"param": field})


class ProviderError(AuralinkError):
    """A provider refused or failed. `kind` is the class that metrics and feedback use; `retry_after` is in seconds."""

    code: ClassVar[str] = "provider_error"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The model provider failed"

    def __init__(
        self, message: str, *, provider: str, model: str, kind: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        extra: dict[str, Any] = {"provider": provider, "model": model, "kind": kind}
        headers = {}
        if retry_after is not None:
            extra["retry_after"] = retry_after
            headers["Retry-After"] = str(max(1, round(retry_after)))
        super().__init__(message, headers=headers, extra=extra)
        self.kind = kind
        self.provider_status = status
        self.retry_after = retry_after


class KeyMissing(AuralinkError):
    """Neither the user nor the operator has given a key for the provider."""

    code = "provider_key_missing"
    status = 403
    title = "No key for the provider"


class PriceUnknown(AuralinkError):
    """The user's money is limited and nobody knows what this model costs."""

    code = "price_unknown"
    status = 402
    title = "Price unknown"

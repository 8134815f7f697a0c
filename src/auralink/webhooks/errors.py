"""Refusals of the webhooks domain."""

from auralink.core.errors import AuralinkError, Conflict, InvalidRequest, NotFound


class WebhookNotFound(NotFound):
    """The user has no such webhook."""

    code = "webhook_not_found"
    title = "Webhook not found"


class WebhookNameTaken(Conflict):
    """The user has a webhook of that name."""

    code = "webhook_name_taken"
    title = "Webhook name taken"


class WebhookSignatureInvalid(AuralinkError):
    """A delivery is not signed with the webhook's secret, or its time is not now. The same for a webhook that there is not."""

    code = "webhook_signature_invalid"
    status = 401
    title = "Webhook signature invalid"


class BadEvent(InvalidRequest):
    """What was delivered is not an event that the webhook can make an input of."""

    code = "event_invalid"
    title = "Invalid event"


def webhook_not_found(webhook_id: object) -> WebhookNotFound:
    """The error for a webhook that is not there, or another user's, which looks the same."""
    return WebhookNotFound(f"you have no webhook {webhook_id}; GET /api/v1/webhooks lists yours")

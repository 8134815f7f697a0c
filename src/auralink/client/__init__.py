"""The typed Python client of AuraLink: what applications, the CLI and the console use. It has no private door."""

from auralink.client.client import AuraLink
from auralink.client.errors import ApiError, ServiceUnreachable

__all__ = ["ApiError", "AuraLink", "ServiceUnreachable"]

"""A thin HTTP/1.1 client for the calls that the gateways make: pooled, guarded against SSRF, bounded in every direction.

It follows no redirect, keeps no cookie, takes no proxy from the environment, asks for no compression and refuses it when it
comes all the same. What a general client does beside that is what makes it cost five to fifty times as much.
"""

from auralink.core.http_client.client import HttpClient
from auralink.core.http_client.errors import (
    HttpAnswerTooLarge,
    HttpBadAnswer,
    HttpClosed,
    HttpFailed,
    HttpInvalidRequest,
    HttpTimeout,
    HttpUnreachable,
)
from auralink.core.http_client.response import Headers, Response

__all__ = [
    "Headers",
    "HttpAnswerTooLarge",
    "HttpBadAnswer",
    "HttpClient",
    "HttpClosed",
    "HttpFailed",
    "HttpInvalidRequest",
    "HttpTimeout",
    "HttpUnreachable",
    "Response",
]

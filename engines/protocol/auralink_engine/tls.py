"""The certificates that gateways reached by https are checked with: read once, before anything is forked."""

import ssl
from functools import cache


@cache
def warm_tls() -> ssl.SSLContext:
    """Reads the certificates, which takes 20 ms; the second time it is done already."""
    return ssl.create_default_context()


def tls_for(url: str) -> ssl.SSLContext | bool:
    """What an HTTP client is told to verify an address with: nothing where the address uses no TLS."""
    return warm_tls() if url.startswith("https:") else False

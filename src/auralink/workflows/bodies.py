"""Bodies of definitions in YAML: routes that take JSON take them too."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from auralink.workflows.checking import read_text

YAML = ("application/yaml", "application/x-yaml", "text/yaml")


class YamlToo(APIRoute):
    """A route whose body may be YAML: what is behind it gets JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            return await handle(await _as_json(request) if media_type in YAML else request)

        return handler


async def _as_json(request: Request) -> Request:
    data = orjson.dumps(read_text((await request.body()).decode(errors="replace")), default=str)
    headers = [(name, value) for name, value in request.scope["headers"] if name not in (b"content-type", b"content-length")]
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]

    async def receive() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    return Request({**request.scope, "headers": headers}, receive)

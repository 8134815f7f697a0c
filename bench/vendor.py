"""A model vendor of the OpenAI kind that answers at once: `python -m bench.vendor serve PORT`; and a client of many streams at once:
`python -m bench.vendor streams` reads a plan from stdin, as bench.load does.

The plan has `host`, `port`, `path`, `headers`, `body` and `streams`; the answer `first_ms` (p50 and p99 of the time to the first event),
`complete` (streams that ended with `[DONE]`) and `seconds`.
"""

import asyncio
import json
import sys
import time
from typing import Any

import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

TEXT = "x" * 100
PIECES = 20
PAUSE = 0.05
"""Seconds between the pieces of a slow stream."""
USAGE = {"prompt_tokens": 20, "completion_tokens": 25, "total_tokens": 45}


async def vendor(scope: Scope, receive: Receive, send: Send) -> None:
    """`POST /v1/chat/completions`."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    asked = orjson.loads(body)
    if asked.get("stream"):
        await _stream(send, PAUSE if asked.get("max_tokens") == 99 or asked.get("max_completion_tokens") == 99 else 0.0)
        return
    message = _message(asked)
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}]
    answer = orjson.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": choices, "usage": USAGE}
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _message(asked: dict[str, Any]) -> dict[str, Any]:
    """A text; first, where there are tools and none has answered since somebody else spoke, a call of the first."""
    if asked.get("tools") and asked["messages"][-1]["role"] != "tool":
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"text": "again"}'}
        return {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    return {"role": "assistant", "content": TEXT}


async def _stream(send: Send, pause: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(PIECES + 1):
        last = number == PIECES
        choice = {"index": 0, "delta": {} if last else {"content": "word "}, "finish_reason": "stop" if last else None}
        event = orjson.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
        await send({"type": "http.response.body", "body": b"data: " + event + b"\n\n", "more_body": True})
        if pause:
            await asyncio.sleep(pause)
    usage = orjson.dumps(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE}
    )
    await send({"type": "http.response.body", "body": b"data: " + usage + b"\n\ndata: [DONE]\n\n"})


async def streams(plan: dict[str, Any]) -> dict[str, Any]:
    """Opens all streams at once and reads them to their ends."""
    started = time.perf_counter()
    ends = await asyncio.gather(*(_read(plan) for _ in range(plan["streams"])))
    firsts = sorted(first for first, _ in ends if first is not None)
    return {
        "p50_ms": firsts[len(firsts) // 2] * 1000 if firsts else float("nan"),
        "p99_ms": firsts[int(len(firsts) * 0.99)] * 1000 if firsts else float("nan"),
        "complete": sum(done for _, done in ends),
        "seconds": time.perf_counter() - started,
    }


async def _read(plan: dict[str, Any]) -> tuple[float | None, bool]:
    """The time to a stream's first event, and whether it came to its end."""
    reader, writer = await asyncio.open_connection(plan["host"], plan["port"])
    body = plan["body"].encode()
    fields = {
        "Host": f"{plan['host']}:{plan['port']}",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **plan["headers"],
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    started = time.perf_counter()
    writer.write(f"POST {plan['path']} HTTP/1.1\r\n{head}\r\n".encode() + body)
    first, received = None, b""
    while chunk := await reader.read(65536):
        received += chunk
        if first is None and b"data: " in received:
            first = time.perf_counter() - started
        received = received[-4096:]
    writer.close()
    return first, b"[DONE]" in received


def main(what: str, port: str = "0") -> None:
    """Serves until it is ended, or runs a plan."""
    if what == "streams":
        json.dump(asyncio.run(streams(json.load(sys.stdin))), sys.stdout)
    else:
        uvicorn.run(vendor, host="127.0.0.1", port=int(port), log_level="error", access_log=False, ws="none")


if __name__ == "__main__":
    main(*sys.argv[1:])

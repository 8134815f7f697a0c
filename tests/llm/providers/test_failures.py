"""Errors of vendors, over a socket: what kind they are, what they say, and how long to wait."""

import json
from typing import Any

import pytest

from auralink.llm.providers.protocol import Failure
from auralink.llm.providers.vendors import REGISTRY
from tests.llm.fake_vendor import Error
from tests.llm.providers.conftest import Wire, exchanges
from tests.llm.vendor_wire import WIRES

ASKED = {"messages": [{"role": "user", "content": "?"}]}


def read(wire_format: str, status: int, body: Any, headers: dict[str, str] | None = None) -> Failure:
    """What a body says."""
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return REGISTRY[wire_format].failure(status, headers or {}, content)


@pytest.mark.parametrize("wire_format", WIRES)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request"), (404, "not_found"), (429, "rate_limited"), (500, "server_error"), (503, "overloaded")],
)
async def test_an_error_status_is_read(wire: Wire, wire_format: str, status: int, kind: str) -> None:
    if (wire_format, status) == ("anthropic", 503):
        status = 529
    wire.vendor.say(Error(status, "these are my reasons", {"Retry-After": "7"}))
    reply = await wire.send(REGISTRY[wire_format].request(ASKED, wire.vendor.target(wire_format)))
    failure = REGISTRY[wire_format].failure(reply.status, reply.headers, reply.content)
    assert failure.kind == kind
    assert failure.message.startswith("these are my reasons")
    assert failure.retry_after == 7


@pytest.mark.parametrize("wire_format", WIRES)
async def test_a_wrong_key_is_told_from_other_errors(wire: Wire, wire_format: str) -> None:
    reply = await wire.send(REGISTRY[wire_format].request(ASKED, wire.vendor.target(wire_format, key="sk-wrong")))
    assert REGISTRY[wire_format].failure(reply.status, reply.headers, reply.content).kind == "unauthorized"


@pytest.mark.parametrize("example", exchanges("failures.json"))
def test_a_vendor_has_its_own_words_for_it(example: dict[str, Any]) -> None:
    assert read(example["format"], example["status"], example["body"]).kind == example["kind"]


def test_googles_delay_is_in_the_body() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]
    body = {
        "error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota", "details": details}
    }
    failure = read("google", 429, body)
    assert (failure.kind, failure.retry_after) == ("rate_limited", 34.07)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT", "Date": "Sun, 22 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:00 GMT", "Date": "Sun, 22 Nov 2026 12:00:30 GMT"}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert read("openai", 429, {"error": {"message": "slow down"}}, headers).retry_after == seconds


def test_the_id_by_which_the_vendor_knows_the_request_is_kept() -> None:
    body = {"type": "error", "error": {"type": "api_error", "message": "Internal"}, "request_id": "req_9"}
    assert read("anthropic", 500, body).message == "Internal (request req_9)"
    assert (
        read("openai", 500, {"error": {"message": "Internal"}}, {"X-Request-ID": "req_8"}).message == "Internal (request req_8)"
    )


def test_the_cause_behind_a_router_is_kept() -> None:
    body = {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "CUDA out of memory"}}}
    assert read("openai", 502, body).message == "Provider returned error: CUDA out of memory"


@pytest.mark.parametrize("wire_format", WIRES)
def test_a_page_of_a_proxy_is_shown_as_text(wire_format: str) -> None:
    failure = read(wire_format, 502, "<html><h1>Bad  gateway</h1>" + "x" * 10_000)
    assert failure.kind == "server_error"
    assert failure.message.startswith("HTTP 502: Bad gateway")
    assert read(wire_format, 500, "").message == "HTTP 500"

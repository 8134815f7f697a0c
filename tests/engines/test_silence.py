"""Nothing leaves the machine: a run, and the warming before it, reaches for nothing but the two gateways (tests/engines/silence.py)."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auralink.runs.engine_manifest import default_root, find_places, get_place

ROOT = Path(__file__).resolve().parents[2]
ENGINES = [place.manifest.name for place in find_places(default_root())]
LOOPBACK = "127.0.0.1"


def silence(engine: str, folder: Path) -> dict[str, Any]:
    """What is known of a run."""
    command = [sys.executable, "-m", "tests.engines.silence", engine, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_reaches_for_nothing_but_the_gateways(engine: str, tmp_path: Path) -> None:
    state = get_place(default_root(), engine).state()
    if state != "installed":
        if os.environ.get("CI"):
            pytest.fail(f"the engine {engine} is {state}; run `make engines`")
        pytest.skip(f"the engine {engine} is {state}; run `make engines`")
    told = silence(engine, tmp_path)
    assert told["outcome"] == "result"
    assert told["called"] >= 1
    with_helper = get_place(default_root(), engine).manifest.helper is not None  # it listens on a port of this machine
    assert [line for line in told["python"] if not (with_helper and LOOPBACK in line)] == []
    assert [packet for packet in told["packets"] or () if not (with_helper and LOOPBACK in packet)] == []


def test_an_engine_that_reaches_out_is_heard(tmp_path: Path) -> None:
    told = silence("chatty", tmp_path)
    assert told["outcome"] == "result"
    assert "socket.getaddrinfo ('telemetry.invalid', 443)" in told["python"]
    assert any("2001:db8::1" in line for line in told["python"])
    if told["packets"] is None:
        pytest.skip("this machine gives no network of its own: what is no Python is not heard here")
    assert "tcp 192.0.2.1:443" in told["packets"], "past Python's sockets"
    assert "tcp 2001:db8::1:443" in told["packets"] or not socket.has_dualstack_ipv6()
    assert any(packet.endswith(":53") for packet in told["packets"]), "the look-up"

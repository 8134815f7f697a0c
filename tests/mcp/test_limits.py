"""Token buckets: a burst is possible, a flood is not; shared through a real Redis, and local while it is down."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from auralink.core.buckets import Buckets, MemoryBuckets, RedisBuckets
from auralink.core.secret import Secret


async def taken(buckets: Buckets, calls: int, *, per_minute: int) -> int:
    """How many of `calls` get a token."""
    return sum([await buckets.take("k", per_minute) == 0 for _ in range(calls)])


async def test_a_bucket_holds_a_minute_and_refills_steadily() -> None:
    now = 100.0
    buckets = MemoryBuckets(lambda: now)
    assert await taken(buckets, 70, per_minute=60) == 60
    assert await buckets.take("k", 60) == pytest.approx(1.0)
    now += 5
    assert await taken(buckets, 10, per_minute=60) == 5
    now += 3600
    assert await taken(buckets, 70, per_minute=60) == 60, "an idle bucket holds no more than a minute's worth"
    assert await buckets.take("another", 60) == 0


@asynccontextmanager
async def redis_server(port: int) -> AsyncIterator[None]:
    program = shutil.which("redis-server")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    break
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.needs_redis
async def test_replicas_share_a_bucket_and_count_alone_while_redis_is_gone() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one, other = RedisBuckets(Secret(f"redis://127.0.0.1:{port}")), RedisBuckets(Secret(f"redis://127.0.0.1:{port}"))
    try:
        async with redis_server(port):
            assert await taken(one, 3, per_minute=4) == 3
            assert await taken(other, 3, per_minute=4) == 1, "both replicas draw on one bucket"
            assert await other.take("k", 4) > 0
        assert await taken(one, 6, per_minute=4) == 4, "without Redis a replica counts for itself"
        async with redis_server(port):
            assert await taken(one, 6, per_minute=4) == 4, "and shares again when it is back"
            assert await taken(other, 1, per_minute=4) == 0
    finally:
        await one.close()
        await other.close()

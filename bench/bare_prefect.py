"""Prefect by itself, for comparison: the same tasks as a plain flow, with the server that Prefect starts for it. Prints JSON.

Runs in the engine's environment: `python bench/bare_prefect.py SAMPLES STEPS`.
"""

import asyncio
import json
import statistics
import sys
import time

from prefect import flow, task


@task(persist_result=False)
async def step(number: int) -> int:
    """Does nothing."""
    return number


@flow(persist_result=False)
async def one() -> int:
    """A flow of one task."""
    return await step(1)


@flow(persist_result=False)
async def many(steps: int) -> int:
    """Tasks one after another."""
    for number in range(steps):
        await step(number)
    return steps


async def main(samples: int, steps: int) -> dict[str, float]:
    """Seconds: the first flow of all, a warm one, and one of many steps."""
    begun = time.perf_counter()
    await one()
    first = time.perf_counter() - begun
    return {"first": first, "one": await _median(one, samples), "many": await _median(lambda: many(steps), samples)}


async def _median(work, samples: int) -> float:  # type: ignore[no-untyped-def]
    taken = []
    for _ in range(samples):
        begun = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*map(int, sys.argv[1:])))))

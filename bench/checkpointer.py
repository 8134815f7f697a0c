"""What LangGraph's own durability costs for each step, run by the python of bench/.peers: prints ms.

A chain of nodes that do nothing, with AsyncPostgresSaver on the database `DSN` and without; the difference for each node.
"""

import asyncio
import os
import statistics
import time
from typing import Any, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph

NODES, ROUNDS = 50, 7


class State(TypedDict):
    """What the nodes pass on."""

    text: str


def chain(saver: Any = None) -> Any:
    """Nodes one after another."""
    graph = StateGraph(State)
    names = [f"n{number}" for number in range(NODES)]
    for name in names:
        graph.add_node(name, lambda state: {"text": "x" * 100})
    for one, other in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(one, other)
    return graph.compile(checkpointer=saver)


async def timed(graph: Any) -> float:
    """The median time in ms of a node."""
    times = []
    for number in range(ROUNDS):
        config = {"configurable": {"thread_id": f"bench {number}"}, "recursion_limit": NODES + 5}
        started = time.perf_counter()
        await graph.ainvoke({"text": ""}, config)
        times.append((time.perf_counter() - started) / NODES)
    return statistics.median(times[1:]) * 1000


async def main() -> None:
    """Measures with and without."""
    async with AsyncPostgresSaver.from_conn_string(os.environ["DSN"]) as saver:
        await saver.setup()
        with_saver = await timed(chain(saver))
    print(with_saver - await timed(chain()))


asyncio.run(main())

"""The words of a model as they come: to whoever follows, in order, and never in the way of the run."""

import asyncio
from typing import Any

import orjson
import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database, DatabaseUnavailable
from auralink.core.ids import uuid7
from auralink.runs import store
from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.runs.schemas import Token
from auralink.runs.tokens import MAX_BYTES, Followed, Words, notice_of
from auralink.vault.crypto import KeyRing
from tests.runs.support import accept, runs_of, working


def token(text: str) -> dict[str, Any]:
    return {"type": "token", "data": {"node": "ask", "text": text}}


async def test_words_and_events_are_heard_in_the_order_in_which_they_were_said(
    database: Database, principal: Principal, ring: KeyRing
) -> None:
    heard = [asyncio.Event() for _ in range(4)]

    async def talk(_start: Start, on_event: OnEvent) -> Result | Failure:
        while not heard[0].is_set():  # until the worker knows that somebody follows
            await on_event(token("…"))
            await asyncio.sleep(0)
        for at in range(1, 4):
            await on_event(token(f"word {at}"))
            await on_event({"type": "message", "data": {"text": f"all of {at}"}})
            await heard[at].wait()
        return Result({})

    seen: list[str] = []
    async with runs_of(database) as runs, working(database.dsn, talk, ring):
        run = await accept(runs, principal)
        async with asyncio.timeout(15):
            async for event in runs.events(principal, run.run_id):
                if isinstance(event, Token):
                    heard[0].set()
                    seen.append(event.data["text"].replace("…", ""))
                elif event is not None and event.type == "message":
                    seen.append(event.data["text"])
                    heard[int(event.data["text"][-1])].set()
    assert [said for said in seen if said] == ["word 1", "all of 1", "word 2", "all of 2", "word 3", "all of 3"]


async def test_nothing_is_sent_where_nobody_follows(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed()
    words = Words(database, uuid7(), followed)
    sent: list[str] = []

    async def notify(_connection: object, notices: list[str]) -> None:
        sent.extend(notices)

    monkeypatch.setattr(store, "notify", notify)
    words.hear({"text": "unheard"})
    await words.flush()
    assert (sent, words.stored()) == ([], [])
    followed.add(words.run_id)
    for nonsense in (None, ["a"], {"text": ["a"]}):
        words.hear(nonsense)
    for text in ("a", "b"):
        words.hear({"node": "x", "text": text})
    words.hear({"node": "y", "text": "c" + "\N{SNOWMAN}" * MAX_BYTES})
    await words.flush()
    assert all(len(notice.encode()) < 8000 for notice in sent)
    told = [orjson.loads(notice_of(notice)[1]) for notice in sent]
    assert told[0] == {"node": "x", "text": "ab"}
    assert "".join(part["text"] for part in told[1:]) == "c" + "\N{SNOWMAN}" * MAX_BYTES
    assert len(words.stored()) == 1


async def test_words_are_lost_while_the_database_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed()
    words = Words(database, uuid7(), followed)
    followed.add(words.run_id)

    async def notify(_connection: object, _notices: list[str]) -> None:
        raise DatabaseUnavailable("it is away")

    monkeypatch.setattr(store, "notify", notify)
    words.hear({"text": "lost"})
    await words.flush()

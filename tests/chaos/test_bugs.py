"""The mistakes that the kill test makes on purpose do what they are meant to: without the fence an earlier attempt repeats a call."""

from auralink.auth.principal import Principal
from auralink.core.db import Database
from chaos.bugs import BUGS, plant
from tests.conftest import TestDatabase
from tests.journal.support import tape

PAY = {"connection": "c", "tool": "pay", "arguments": {}}


async def test_without_the_fence_an_earlier_attempt_makes_a_call_twice(
    database: Database, test_database: TestDatabase, principal: Principal
) -> None:
    plant(test_database.owner.reveal(), "no-fencing")
    async with tape(database, test_database.superuser, principal) as run:
        earlier = run.acting
        await run.lose()
        await run.call(PAY)
        zombie = await run.journal.begin(earlier, "tool", PAY)
        assert (zombie.replay, zombie.seq) == (None, 2)


def test_every_mistake_still_finds_what_it_changes(test_database: TestDatabase) -> None:
    for name in BUGS:
        plant(test_database.owner.reveal(), name)

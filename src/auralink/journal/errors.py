"""What a run is told instead of an answer."""

from auralink.core.errors import Conflict, NotFound

DO_NOT_RETRY = {"x-should-retry": "false"}
"""The official OpenAI clients retry a 409 unless the answer says this."""


class StaleAttempt(Conflict):
    """The call comes from an attempt that is not the run's current one, or the run has ended or waits."""

    code = "stale_attempt"
    title = "Stale attempt"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=DO_NOT_RETRY)


class Suspended(StaleAttempt):
    """The run waits now: the call is not answered, and the next attempt makes it. Raised to unwind a gateway."""

    code = "suspended"
    title = "Run suspended"


class ReplayDivergence(Conflict):
    """A replayed run asks for what its journal does not hold."""

    code = "replay_divergence"
    title = "Replay diverges"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=DO_NOT_RETRY)


class StepNotFound(NotFound):
    """The run has no such entry in its journal."""

    code = "step_not_found"
    title = "Journal entry not found"


class StepDecided(Conflict):
    """The entry's outcome is known: there is nothing to decide."""

    code = "step_decided"
    title = "Nothing to decide"

"""How a run can fail; `code` is the type that the worker is told."""


class RunFailed(Exception):
    """The run cannot go on."""

    code = "RunFailed"


class StepFailed(RunFailed):
    """A step could not do its work; the message names step, type, tool or model, and cause."""

    code = "StepFailed"


class LimitReached(RunFailed):
    """One of the definition's limits."""

    code = "LimitReached"


class CancelledElsewhere(RunFailed):
    """Somebody cancelled the flow run in Prefect."""

    code = "CancelledElsewhere"

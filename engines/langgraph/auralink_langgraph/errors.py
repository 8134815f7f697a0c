"""How a run can fail; `code` is the type that the worker is told."""


class RunFailed(Exception):
    """The run cannot go on."""

    code = "RunFailed"


class NodeFailed(RunFailed):
    """A node could not do its work; the message names node, tool or model, and cause."""

    code = "NodeFailed"


class LimitReached(RunFailed):
    """One of the definition's limits."""

    code = "LimitReached"

"""What the tools of the toolbox refuse or cannot do. Every message ends with the next step, since a model reads it."""

from auralink.core.errors import AuralinkError


class CalculationRefused(AuralinkError):
    """The expression is not arithmetic, has no value, or would cost more than the calculator grants."""

    code = "calculation_refused"
    status = 422
    title = "Calculation refused"


class PageUnavailable(AuralinkError):
    """The page could not be reached, refused to answer, or is not readable text."""

    code = "page_unavailable"
    status = 502
    title = "Page unavailable"


class SearchUnavailable(AuralinkError):
    """The search engine could not be reached, refused the query, or answered something that is not a result list."""

    code = "search_unavailable"
    status = 502
    title = "Search unavailable"


class AnalysisRefused(AuralinkError):
    """The source code is too large, in an unknown language, or took more time or memory than one analysis is granted."""

    code = "analysis_refused"
    status = 422
    title = "Analysis refused"


class ChildFailed(AuralinkError):
    """A bounded child process ended without an answer: out of time, out of memory, or crashed."""

    code = "child_failed"
    status = 500
    title = "Bounded process failed"


class ChildRefused(AuralinkError):
    """A bounded child process says why it does not answer; its caller turns this into an error of its own."""

    code = "child_refused"
    status = 422
    title = "Bounded process refused"

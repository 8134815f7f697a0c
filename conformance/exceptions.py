"""What the gateway does not pass, and why; and what is not asked of it."""

from collections.abc import Mapping, Sequence

NOT_OFFERED = ("tasks-",)
"""Scenarios of extensions (SEP-2663, tasks) that the fixture does not have: they fail at it as well."""

ALL_SERVERS_SCENARIOS: Mapping[str, Sequence[str]] = {
    "2025-11-25": (
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "ping",
        "logging-set-level",
        "tools-list",
        "prompts-list",
        "resources-list",
    ),
    "2026-07-28": (
        "server-stateless",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "http-custom-header-server-validation",
        "sep-2164-resource-not-found",
        "input-required-result-unsupported-methods",
        "tools-list",
        "prompts-list",
        "resources-list",
    ),
}
"""What can be asked of `/mcp` itself: transport, statelessness and lists. The others call tools by names that have no prefix."""

IN_JSON = (
    "allowed and meant: what has nothing to say before its answer is answered in JSON, not in a stream; "
    "a stream is kept open instead of being closed to be polled"
)
PREFIX = (
    "not testable at /mcp: the suite calls its diagnostic tools by names without the connection's prefix; "
    "at /mcp/<connection> these checks pass"
)
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("server-sse-multiple-streams", "server-sse-streams-functional"): IN_JSON,
    ("server-sse-polling", "*"): IN_JSON,
    **{
        ("server-stateless", check): PREFIX
        for check in (
            "sep-2575-server-rejects-undeclared-capability",
            "sep-2575-missing-capability-http-400",
            "sep-2575-http-server-no-independent-requests-on-stream",
            "sep-2575-server-no-log-without-loglevel",
            "sep-2575-server-sends-prompts-list-changed-on-subscription",
            "sep-2575-server-sends-tools-list-changed-on-subscription",
        )
    },
}
"""By scenario and check (`*`: all of its checks)."""

"""Structured logs: one JSON object a line (or a readable console), each with the trace id of the call it belongs to."""

import logging
import sys
from contextvars import ContextVar
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""W3C trace id (32 hex) of the request being served; empty outside one."""


def _with_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if current := trace_id.get():
        event["trace_id"] = current
    return event


def configure_logging(level: str = "INFO", fmt: Literal["json", "console"] = "json") -> None:
    """Sets up structlog and routes the standard library's loggers through the same renderer, to stderr.

    Tracebacks are plain: one that shows local variables would show secrets.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _with_trace_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if fmt == "console":
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "mcp", "httpx2", "asyncio"):
        logging.getLogger(noisy).setLevel("WARNING")

"""A circuit breaker: whoever fails again and again is left alone for a while.

It opens after `failure_threshold` failures in a row, refuses at once for `timeout` seconds, then lets one probe at a time through,
and closes after `success_threshold` of them have succeeded (Nygard, "Release It!", ch. 5).
"""

import time
from typing import Protocol

from auralink.core.errors import AuralinkError


class CircuitOpen(AuralinkError):
    """A server or a provider has failed too often; it is left alone for a while."""

    code = "circuit_open"
    status = 503
    title = "Left alone after failures"


class BreakerSettings(Protocol):
    """When a breaker opens and closes; `timeout` is in seconds."""

    @property
    def failure_threshold(self) -> int: ...
    @property
    def success_threshold(self) -> int: ...
    @property
    def timeout(self) -> float: ...


class Breaker:
    """The state of one. A call asks `wait`, then `begin`, then says `succeeded`, `failed` or nothing, and `end`."""

    __slots__ = ("_settings", "failures", "opened_at", "probing", "successes")

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self.failures = 0
        self.successes = 0
        self.opened_at: float | None = None
        self.probing = False

    @property
    def is_untroubled(self) -> bool:
        """Whether a new one would be the same."""
        return self.failures == 0 and self.opened_at is None

    @property
    def wait(self) -> float | None:
        """Seconds until it is worth trying again; None if a call may go on."""
        if self.opened_at is None:
            return None
        wait = self.opened_at + self._settings.timeout - time.monotonic()
        return None if wait <= 0 and not self.probing else max(wait, 1.0)

    def begin(self) -> bool:
        """A call goes on; whether it is a probe, which `end` has to be told of."""
        self.probing = self.opened_at is not None
        return self.probing

    def end(self, *, probe: bool) -> None:
        """The call is over, however."""
        if probe:
            self.probing = False

    def failed(self) -> bool:
        """What was called is unwell; whether that has just opened the breaker."""
        self.failures += 1
        self.successes = 0
        was_open = self.opened_at is not None
        if was_open or self.failures >= self._settings.failure_threshold:
            self.opened_at = time.monotonic()
        return self.opened_at is not None and not was_open

    def succeeded(self) -> bool:
        """What was called is well; whether that has just closed the breaker."""
        if self.opened_at is None:
            self.failures = 0
            return False
        self.successes += 1
        if self.successes < self._settings.success_threshold:
            return False
        self.opened_at, self.failures, self.successes = None, 0, 0
        return True

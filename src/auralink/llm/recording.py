"""Records a model call: its own row, its operation in the log under the same id, and in a run its step, all in one commit."""

from auralink.audit.group_commit import GroupCommit
from auralink.audit.recording import Recording
from auralink.audit.schemas import Operation, Record
from auralink.core import telemetry
from auralink.core.logging import trace_id
from auralink.llm.catalogue.models import cost_usd
from auralink.llm.errors import ProviderError
from auralink.llm.in_runs import RunCall
from auralink.llm.providers.protocol import Usage
from auralink.llm.requests import ModelRequest
from auralink.llm.schemas import ModelCall
from auralink.llm.selection import Selection

UNHEARD = frozenset({"cancelled", "timeout", "broken_off"})
"""Ends of a call that was sent and not answered: the provider may bill it, so its prompt counts."""
MAX_ERROR = 2000


class ModelRecording(Recording):
    """A model call under way. When it has ended it is priced and counted."""

    def __init__(
        self, audit: GroupCommit, selection: Selection, request: ModelRequest, call: ModelCall, in_run: RunCall | None
    ) -> None:
        call.trace_id, call.task_type = trace_id.get() or None, request.task_type
        call.step = None if in_run is None else in_run.step.seq
        operation = Operation(call.user_id, call.endpoint, call.source, id=call.id, at=call.at, trace_id=call.trace_id)
        super().__init__(audit, operation)
        call.started = self._started
        self.call = call
        self._selection = selection
        self._request = request
        self._in_run = in_run

    def records(self) -> tuple[Record, ...]:
        """The operation, the call, the models that were tried before, and what the run's journal gets."""
        self._end()
        if self._in_run is None:
            return (self.operation, self.call, *self.call.earlier)
        self._in_run.error = self.error
        return (self.operation, self.call, *self.call.earlier, *self._in_run.records(self.call))

    def _end(self) -> None:
        call, operation, error = self.call, self.operation, self.error
        call.outcome, call.latency_ms = operation.outcome, operation.duration_ms
        if operation.error is not None:
            call.error = operation.error = operation.error[:MAX_ERROR]
        if error is not None:
            call.error_class = error.kind if isinstance(error, ProviderError) else error.code
        if call.attempts and not call.usage.prompt and {call.outcome, call.error_class} & UNHEARD:
            call.usage = Usage(prompt=self._request.likely_tokens, exact=False)
        if call.model_id is not None and call.usage.prompt + call.usage.completion:
            call.cost_usd = cost_usd(self._selection.find(call.model_id), call.usage)
        operation.server, operation.tool = call.provider, call.model_id or call.requested
        operation.cost_usd, operation.served_by = call.cost_usd, call.model_id
        _count(call, known=call.model_id is not None and self._selection.is_known(call.model_id))


def _count(call: ModelCall, *, known: bool) -> None:
    """Models that nobody but the client knows share a label."""
    provider, model = call.provider or "none", call.model_id or "none"
    label = model if call.model_id is None or known else "custom"
    telemetry.llm_requests.labels(provider, label, call.outcome).inc()
    telemetry.llm_duration.labels(provider).observe(call.latency_ms / 1000)
    if call.usage.prompt:
        telemetry.llm_tokens.labels(provider, label, "prompt").inc(call.usage.prompt)
        telemetry.llm_tokens.labels(provider, label, "completion").inc(call.usage.completion)
    if call.cost_usd:
        telemetry.llm_cost.labels(provider, label).inc(float(call.cost_usd))

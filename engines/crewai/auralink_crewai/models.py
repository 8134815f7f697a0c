"""CrewAI's client for models, at the run's gateway.

It is what `crewai.LLM` builds for an OpenAI-compatible address. What is changed here: models and tools go by exactly the names that the
definition and the gateway give them, schemas of tools are sent as they are (CrewAI would rewrite both), nothing is asked twice, no
error is kept from the run, and each call's number in the journal is kept for the message that it belongs to.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
from auralink_engine import Job
from auralink_engine.team import MemberFailed
from auralink_engine.watching import CONNECT_SECONDS, WatchedModels
from auralink_engine.words import said_by
from crewai.llms.providers.openai.completion import OpenAICompletion
from pydantic import PrivateAttr

from auralink_crewai.ending import Ending, Over
from auralink_crewai.tools import Tools

ask_once = OpenAICompletion.call.__wrapped__  # type: ignore[attr-defined] # without CrewAI's own three attempts after a 429


class GatewayModel(OpenAICompletion):
    """One member's model. `owner` is who is named when it fails; `made` are the tool calls for the present message."""

    _owner: str = PrivateAttr()
    _gateway: "ModelGateway" = PrivateAttr()
    _http: httpx.Client | None = PrivateAttr(default=None)
    _made: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _steps: list[int] = PrivateAttr(default_factory=list)
    _calls: int = PrivateAttr(default=0)

    def __init__(self, *, owner: str, gateway: "ModelGateway", model: str, made: list[dict[str, Any]]) -> None:
        steps: list[int] = []
        watched = WatchedModels(httpx, gateway.inner, gateway.ending.tell, steps.append)
        http = httpx.Client(transport=watched, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS), trust_env=False)  # type: ignore[arg-type]
        super().__init__(
            model=model,
            provider="openai",
            custom_openai=True,
            base_url=gateway.url,
            api_key=gateway.token,
            max_retries=0,
            temperature=gateway.temperature,
            max_tokens=gateway.answer_tokens,
        )
        self.is_o1_model = False  # CrewAI judges by the letters "o1" in the name
        self._owner, self._gateway, self._steps, self._http, self._made = owner, gateway, steps, http, made

    def call(self, messages: Any, tools: Any = None, *rest: Any, **more: Any) -> Any:
        """One model call. Whatever goes wrong ends the run, whoever in CrewAI would catch it."""
        gateway = self._gateway
        gateway.ending.check()
        self._calls += 1
        try:
            answer = ask_once(self, messages, tools, *rest, **more)
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends the run, and CrewAI would catch it)
            gateway.ending.tell(failure_of(error, self._owner, self.model))
            raise Over("the model did not answer") from None
        if isinstance(answer, list):
            return self._with_aliases(answer) if tools else self._without_an_answer(answer)
        return answer

    def take_steps(self) -> list[int]:
        """The numbers of the calls since the last time."""
        taken, self._steps[:] = list(self._steps), []
        return taken

    def take_calls(self) -> int:
        """How many calls were made since the last time."""
        made, self._calls = self._calls, 0
        return made

    @contextmanager
    def answering(self, schema: Mapping[str, Any]) -> Iterator[None]:
        """Meanwhile answers are JSON of a schema."""
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}
        self.response_format = wanted  # type: ignore[assignment]
        try:
            yield
        finally:
            self.response_format = None

    def supports_stop_words(self) -> bool:
        """No: what a model says is not cut."""
        return False

    def _without_an_answer(self, calls: Sequence[Any]) -> str:
        """What stands for the answer of a member who asks for tools when it may no longer: what its tools said last."""
        wanted = ", ".join(dict.fromkeys(call.function.name for call in calls))
        said = f"{self._owner} came to no answer within its limit of model calls; it still asked for {wanted}."
        return f"{said}\n\nIts last tool said:\n{self._made[-1]['answer']}" if self._made else said

    def _build_sync_client(self) -> Any:
        if self._http is None:
            return None  # the model is being made; its client is built when it is asked first
        return openai.OpenAI(**self._get_client_params(), http_client=self._http)

    def _build_async_client(self) -> Any:
        return None

    def _emit_call_completed_event(self, *_: Any, **__: Any) -> None:
        """Not told to CrewAI's event bus: a flow would count tokens there, in threads of its own, which we do here."""

    def _convert_tools_for_interference(self, tools: Sequence[Any]) -> list[dict[str, Any]]:
        known = self._gateway.tools.described
        own = [tool for tool in tools if tool["function"]["name"] not in known]
        converted = {tool["function"]["name"]: tool for tool in super()._convert_tools_for_interference(own)}
        names = [tool["function"]["name"] for tool in tools]
        return [known[name] if name in known else converted[name] for name in names]

    def _format_messages(self, messages: Any, **more: Any) -> list[Any]:
        return [self._with_names(message) for message in super()._format_messages(messages, **more)]

    def _with_names(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message of the conversation with the tools' own names."""
        names = self._gateway.tools.names
        renamed = {key: value for key, value in message.items() if value is not None or key == "content"}
        if renamed.get("role") == "tool":
            renamed.pop("name", None)
        if renamed.get("tool_calls"):
            renamed["tool_calls"] = [_renamed(call, names) for call in renamed["tool_calls"]]
        return renamed

    def _with_aliases(self, calls: list[Any]) -> list[Any]:
        """Tool calls with the names by which CrewAI knows the tools."""
        for call in calls:
            call.function.name = self._gateway.tools.alias_of(call.function.name)
        return calls


@dataclass
class ModelGateway:
    """What the models of a run share."""

    url: str
    token: str
    ending: Ending
    tools: Tools
    inner: Any
    temperature: float | None
    answer_tokens: int | None

    @classmethod
    def of(cls, job: Job, ending: Ending, tools: Tools, inner: Any) -> "ModelGateway":
        """The gateway of a run."""
        limits = job.definition["limits"]
        return cls(job.llm_url, job.token, ending, tools, inner, limits.get("temperature"), limits.get("answer_tokens"))


def failure_of(error: Exception, owner: str, model: str) -> MemberFailed:
    """The error of a model call, with member, model and cause."""
    answered = next((cause for cause in _causes_of(error) if isinstance(cause, openai.APIStatusError)), None)
    said = said_by(answered) if answered is not None else str(error) or type(error).__name__
    return MemberFailed(f"member {owner!r}: model {model!r}: {said}")


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error and what it comes from, each once: CrewAI raises errors that are their own cause."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__


def _renamed(call: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "name": names.get(function["name"], function["name"])}}

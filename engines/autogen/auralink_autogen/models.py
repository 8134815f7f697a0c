"""AutoGen's OpenAI client, as a member uses it: it names who failed, and takes what models get wrong without failing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openai
from auralink_engine.team import MemberFailed
from auralink_engine.words import said_by
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, LLMMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

NO_ANSWER = "I have used all my model calls and have no answer."


class MemberModel(OpenAIChatCompletionClient):
    """The stock client for one member. A failed call ends the run (`fail`), with the member, the model and the cause in its message."""

    component_provider_override = "autogen_ext.models.openai.OpenAIChatCompletionClient"

    def __init__(self, member: str, fail: Callable[[Exception], None], **configuration: Any) -> None:
        super().__init__(**configuration)
        self.answered = 0
        self.cornered = 0
        """How often a member that had used up its calls had to answer."""
        self._member = member
        self._model = configuration["model"]
        self._fail = fail

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        tool_choice: Any = "auto",
        json_output: Any = None,
        extra_create_args: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """One model call, as the stock client makes it."""
        try:
            result = await super().create(
                messages,
                tools=tools,
                tool_choice=tool_choice,
                json_output=json_output,
                extra_create_args=extra_create_args or {},
                cancellation_token=cancellation_token,
            )
        except openai.APIStatusError as error:
            raise self._failed(said_by(error)) from error
        except (openai.OpenAIError, ValueError, IndexError, AttributeError, TypeError) as error:
            raise self._failed(str(error) or type(error).__name__) from error
        self.answered += 1
        return self._last_word(result) if tool_choice == "none" else _mended(result)

    def _last_word(self, result: CreateResult) -> CreateResult:
        """The answer of a member that may call no more tools; one that asks for them nevertheless has none."""
        self.cornered += 1
        if isinstance(result.content, str):
            return result
        return result.model_copy(update={"content": result.thought or NO_ANSWER, "thought": None, "finish_reason": "stop"})

    def _failed(self, why: str) -> MemberFailed:
        error = MemberFailed(f"member {self._member!r}: model {self._model!r}: {why}")
        self._fail(error)
        return error


def _mended(result: CreateResult) -> CreateResult:
    """Some models give no arguments at all for a tool that needs none."""
    if isinstance(result.content, str):
        return result
    calls = [
        call if call.arguments.strip() else FunctionCall(id=call.id, name=call.name, arguments="{}") for call in result.content
    ]
    return result.model_copy(update={"content": calls})

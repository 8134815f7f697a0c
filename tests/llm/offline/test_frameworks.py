"""Prompts as the agent frameworks write them: the offline model is of use to a crew, a group chat and a graph."""

import json
from typing import Any

import pytest

from auralink.llm.offline import complete
from tests.llm.offline.test_choosing import TEXT, calls, tool

COWORKERS = "Researcher, Writer"
DELEGATION = [
    tool(
        "delegate_work_to_coworker",
        f"Delegate a specific task to one of the following coworkers: {COWORKERS}\nThe input to this tool should be the coworker.",
        {"task": TEXT, "context": TEXT, "coworker": TEXT},
    ),
    tool(
        "ask_question_to_coworker",
        f"Ask a specific question to one of the following coworkers: {COWORKERS}\nThe input to this tool should be the coworker.",
        {"question": TEXT, "context": TEXT, "coworker": TEXT},
    ),
]
CREW_TASK = """
Current Task: {task}

This is the expected criteria for your final answer: a short report
you MUST return the actual complete content as the final answer, not a summary.
{context}
Begin! This is VERY important to you, use the tools available and give your best Final Answer, your job depends on it!

Thought:"""
SELECTOR = """You are in a role play game. The following roles are available:
planner: Plans the steps of a task.
coder: Writes Python code and fixes bugs in code.
critic: Reviews results.
Read the following conversation. Then select the next role from ['planner', 'coder', 'critic'] to play. Only return the role.

{history}

Read the above conversation. Then select the next role from ['planner', 'coder', 'critic'] to play. Only return the role.
"""


def answer(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return complete({"model": "auralink/offline", "messages": list(messages), **fields})


def said(completion: dict[str, Any]) -> str:
    return str(completion["choices"][0]["message"]["content"])


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def test_a_crews_manager_delegates_the_task_once_to_the_coworker_that_suits_it() -> None:
    manager = system("You are Crew Manager. Your personal goal is: Manage the team.")
    task = user(CREW_TASK.format(task="Research the causes of tides as a researcher would.", context=""))
    first = answer(manager, task, tools=DELEGATION)
    assert calls(first) == {
        "delegate_work_to_coworker": {
            "task": "Research the causes of tides as a researcher would.",
            "context": "Research the causes of tides as a researcher would.",
            "coworker": "Researcher",
        }
    }
    message = first["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "The moon's gravity causes tides."}
    last = answer(manager, task, message, result, tools=DELEGATION)
    assert calls(last) == {}
    assert "The moon's gravity causes tides." in said(last)


def test_a_crews_manager_delegates_to_somebody_where_the_task_suits_nobody() -> None:
    first = answer(user(CREW_TASK.format(task="What is the tide?", context="")), tools=DELEGATION)
    assert calls(first)["delegate_work_to_coworker"]["coworker"] == "Researcher"


def test_a_crews_criteria_and_date_are_no_part_of_what_it_works_with() -> None:
    given = "Explain tides.\n\nContext:\nTides are caused by the moon.\n\nToday is Sunday, 01 March 2026."
    text = said(answer(user(CREW_TASK.format(task=given, context=""))))
    assert "caused by the moon" in text
    assert not any(words in text for words in ("criteria", "actual complete content", "Today is"))


def test_a_crews_writer_works_with_the_context_that_its_task_brings() -> None:
    context = "\nThis is the context you're working with:\nTides are caused by the moon. Cheese is made of milk.\n"
    task = user(CREW_TASK.format(task="Write about what causes tides", context=context))
    text = said(answer(system("You are Writer."), task))
    assert text.startswith("No language model is configured")
    assert "Tides are caused by the moon." in text
    assert "your job depends on it" not in text


def test_a_final_answer_is_marked_where_the_prompt_demands_that() -> None:
    prompt = "To give my best complete final answer use this format:\n\nThought: I now can give a great answer\nFinal Answer: Your answer"
    text = said(answer(system(prompt), user("\nCurrent Task: Say hello\n\nBegin!\n\nThought:")))
    assert text.startswith("Final Answer: No language model is configured")


@pytest.mark.parametrize(
    ("history", "chosen"),
    [
        ("user: Please fix the bugs in my Python code.", "coder"),
        ("user: Make a plan with steps.\nplanner: First read it. coder, please write it.", "coder"),
        ("user: Make a plan with steps.\nplanner: Read it.\ncoder: Done.", "critic"),
        ("user: Plan steps.\nplanner: Read it.\ncoder: Done.\ncritic: Good.", "planner"),
    ],
)
@pytest.mark.parametrize("role", ["system", "user"])
def test_a_group_chats_selector_gets_one_name_and_nothing_else(history: str, chosen: str, role: str) -> None:
    assert said(answer({"role": role, "content": SELECTOR.format(history=history)})) == chosen


HANDOFFS = [
    tool("transfer_to_flights_refunder", "Handoff to flights_refunder.", {}),
    tool("transfer_to_user", "Handoff to user.", {}),
]


def test_a_swarms_agent_hands_over_to_whom_the_request_is_about_and_the_other_goes_on_with_it() -> None:
    asked = user("I need to refund my flights", name="user")
    assert calls(answer(system("You are a travel agent."), asked, tools=HANDOFFS)) == {"transfer_to_flights_refunder": {}}
    refund = tool("refund_flight", "Refund a flight", {"flight_id": TEXT})
    transferred = user("Transferred to flights_refunder, adopting the role of flights_refunder immediately.", name="travel_agent")
    asked = user("Refund my flight, flight_id: 507811", name="user")
    back = [tool("transfer_to_travel_agent", "Handoff to travel_agent, who knows flights", {}), refund]
    assert calls(answer(system("You refund flights."), asked, transferred, tools=back)) == {
        "refund_flight": {"flight_id": "507811"}
    }


def test_a_group_chats_member_whose_turn_it_is_works_with_what_the_others_have_said() -> None:
    heard = {"role": "assistant", "name": "reader", "content": "WebRTC 1.0 is a recommendation of the W3C."}
    turn = user("It is your turn, writer.")
    text = said(answer(system("You are the writer."), user("Summarise WebRTC 1.0"), heard, turn))
    assert "reader says:\n- WebRTC 1.0 is a recommendation of the W3C." in text


def test_the_word_that_ends_a_conversation_is_said_at_the_end() -> None:
    prompt = (
        "You are a helpful AI assistant. Solve tasks using your tools. Reply with TERMINATE when the task has been completed."
    )
    assert said(answer(system(prompt), user("Hello"))).endswith("\n\nTERMINATE")
    assert "TERMINATE" not in said(answer(system("You are helpful."), user("Hello")))


def test_a_graphs_supervisor_sends_each_worker_once_and_then_finishes() -> None:
    schema = {"type": "object", "properties": {"next": {"enum": ["researcher", "coder", "FINISH"]}}, "required": ["next"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "route", "schema": schema}}
    messages = [system("You supervise workers."), user("Let the researcher find figures and the coder plot them.")]
    order = []
    for _ in range(4):
        chosen = json.loads(said(answer(*messages, response_format=wanted)))["next"]
        order.append(chosen)
        if chosen == "FINISH":
            break
        messages.append(user(f"I have done my part as {chosen}.", name=chosen))
        messages.append(messages[1])
    assert order[-1] == "FINISH"
    assert sorted(order[:-1]) == ["coder", "researcher"]


def test_a_tool_answer_in_content_blocks_is_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    blocks = json.dumps([{"type": "text", "text": "The port is 8001."}])
    messages = (
        user("Which port?"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": blocks},
    )
    assert "read says:\n- The port is 8001." in said(answer(*messages))


TOGETHER = system(
    "Your name is writer.\n\nThe others are:\n- reader: Reads.\n- editor: Edits.\n\nEnd with TERMINATE to say that it is done."
)
LAMP = user("user said:\nWhich colour is the lamp?\n\nContext:\nIt stands here.\n\nToday is Sunday, 01 March 2026.")


def test_an_agent_of_a_group_answers_the_person_s_question_from_what_the_others_said() -> None:
    text = said(answer(TOGETHER, LAMP, user("reader said:\nThe lamp is red.")))
    assert "reader says:\n- The lamp is red." in text
    assert "Sunday" not in text


def test_an_agent_of_a_group_says_that_it_is_done_only_when_everybody_has_spoken() -> None:
    reader, editor = user("reader said:\nThe lamp is red."), user("editor said:\nIt is.")
    assert not said(answer(TOGETHER, LAMP, reader)).endswith("TERMINATE")
    assert said(answer(TOGETHER, LAMP, reader, editor)).endswith("TERMINATE")


def test_what_agents_of_a_group_repeat_is_said_once_and_without_its_frame() -> None:
    first = said(answer(system("Your name is reader."), LAMP, user("editor said:\nThe lamp is red.")))
    text = said(answer(TOGETHER, LAMP, user("editor said:\nThe lamp is red."), user(f"reader said:\n{first}")))
    assert text.count("The lamp is red.") == 1
    assert text.count("No language model is configured") == 1


def test_facts_are_taken_from_a_team_s_result_and_not_from_the_question() -> None:
    asked = (
        "A team worked on this task:\nWhich colour?\n\nIts result:\nThe lamp is red. It is cheap.\n\nList at most 12 short facts"
        ' of the result that are worth remembering, as JSON: {"facts": ["…"]}. Each must stand in the result.'
    )
    schema = {"type": "object", "properties": {"facts": {"type": "array", "items": {"type": "string"}}}, "required": ["facts"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    facts = json.loads(said(answer(user(asked), response_format=form)))["facts"]
    assert set(facts) == {"The lamp is red.", "It is cheap."}

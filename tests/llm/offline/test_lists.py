"""What the offline model puts into lists of a schema."""

import json
from typing import Any

from auralink.llm.offline import complete

SAID = """Anna: We decided to ship on 2026-03-12.
Ben: The soup was good.
Carla: I will write the notes by 2026-03-10.
Anna: Ben will call the printer by Friday."""
TEXTS = {"type": "array", "items": {"type": "string"}}
PERHAPS = {"type": ["string", "null"]}


def listed(schema: dict[str, Any], request: str = "Take the minutes.", context: str = SAID) -> list[Any]:
    wanted = {"type": "object", "properties": {"found": schema}, "required": ["found"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}
    messages = [{"role": "user", "content": f"{request}\n\nContext:\n{context}"}]
    completion = complete({"model": "auralink/offline", "messages": messages, "response_format": form})
    found: list[Any] = json.loads(completion["choices"][0]["message"]["content"])["found"]
    return found


def test_a_list_has_the_sentences_that_its_description_is_about() -> None:
    assert listed(TEXTS | {"description": "What was decided"}) == ["Anna: We decided to ship on 2026-03-12."]


def test_a_list_that_may_be_empty_is_empty_where_nothing_is_said() -> None:
    assert listed(TEXTS | {"description": "Complaints", "minItems": 0}) == []
    assert listed(TEXTS | {"minItems": 0}, request="Elephants?") == []
    assert listed(TEXTS, request="Elephants?")


def test_objects_are_made_of_sentences_that_have_what_may_be_null() -> None:
    item = {"type": "object", "properties": {"task": {"type": "string"}, "owner": PERHAPS, "due": PERHAPS}}
    schema = {"type": "array", "description": "Tasks", "minItems": 0, "items": item | {"required": ["task", "owner", "due"]}}
    assert [(found["owner"], found["due"]) for found in listed(schema)] == [("Carla", "2026-03-10"), ("Ben", "Friday")]


def test_nothing_is_listed_twice() -> None:
    assert listed(TEXTS | {"description": "decided"}, context="We decided it.\nWe decided it.") == ["We decided it."]

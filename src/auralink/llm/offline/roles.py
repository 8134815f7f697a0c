"""Answers the question who speaks next, as group chats ask it (AutoGen's selector): with one name out of a list and nothing else."""

import re
from collections import Counter

from auralink.llm.offline.conversation import Conversation
from auralink.llm.offline.words import stems

_ASKED = re.compile(r"select the next (?:role|speaker|agent|participant)\s+from\s*\[([^\]]+)\]", re.IGNORECASE)


def next_speaker(conversation: Conversation) -> str | None:
    """The one who is to speak next; None if that is not what is asked.

    Whoever the last message calls by name; else of those who have spoken least the one whose description suits it best, in the order
    of the list.
    """
    text = "\n".join(conversation.texts)
    asked = list(_ASKED.finditer(text))
    if not asked:
        return None
    names = [name.strip(" '\"`") for name in asked[-1][1].split(",") if name.strip(" '\"`")]
    turns = _turns(text, names)
    spoken = Counter(speaker for speaker, _ in turns)
    last_speaker, last = turns[-1] if turns else (None, conversation.request)
    others = [name for name in names if name != last_speaker] or names
    called = [name for name in others if re.search(rf"(?<!\w)@?{re.escape(name)}(?!\w)", last)]
    if last_speaker is not None and len(called) == 1:
        return called[0]
    wanted = set(stems(last))
    suits = {name: len(wanted & set(stems(_described(text, name)))) for name in others}
    return min(others, key=lambda name: (spoken[name], -suits[name], names.index(name)))


def _turns(text: str, names: list[str]) -> list[tuple[str, str]]:
    """Who has said what, in the history that the question contains."""
    said = re.compile(rf"^({'|'.join(re.escape(name) for name in names)}|user)\s*:\s*(.*)$", re.MULTILINE)
    head, found, history = text.partition("conversation")
    lines = said.findall(history if found else head)
    return [(speaker, what) for speaker, what in lines]


def _described(text: str, name: str) -> str:
    found = re.search(rf"^\s*{re.escape(name)}\s*:\s*(.*)$", text.partition("conversation")[0], re.MULTILINE)
    return f"{name} {found[1] if found else ''}"

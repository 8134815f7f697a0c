"""Finds values for the fields of a JSON schema in a text: numbers, names, addresses, quoted words, or the relevant part of it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auralink.llm.offline.words import stem, stems

Schema = Mapping[str, Any]


READ = 8_000
"""Characters of a text that are looked through."""
MOST_OBJECTS = 50
MOST_OPTIONS = 500


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The text does not have it."""

NUMBER = re.compile(r"(?<![\w./:-])-?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w/:]|\.\d|-\d)")
QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^”\n]+)”|`([^`\n]+)`|(?<!\w)'([^'\n]+)'(?!\w)")
URL = re.compile(r"https?://[^\s<>\"'`)\]]+[^\s<>\"'`)\].,;:!?]")
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?")
REPOSITORY = re.compile(r"(?<![\w/.:@-])[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*[A-Za-z0-9](?![\w/])")
PATH = re.compile(r"(?<![\w/:.-])(?:~?/)?(?:[\w.-]+/)*[\w-]+\.[A-Za-z]\w{0,7}(?![\w/])|(?<![\w/:.])~?/[\w./-]+")
SQL = re.compile(r"\b(?:SELECT|WITH|INSERT|UPDATE|DELETE|EXPLAIN|SHOW)\b[^;]*", re.IGNORECASE)
CODE = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
FORMULA = re.compile(r"(?:\b(?:sqrt|sin|cos|tan|log|exp|abs)\s*\(|[\d\s.,+\-*/^%()×÷])+")
OPERATION = re.compile(r"[\d)]\s*[+\-*/^%×÷]+\s*[(\d]|[a-z]\(")
PLACE = re.compile(r"\b(?:in|at|for|near|from|to|of)\s+((?:[A-ZÀ-Þ][\w'-]+)(?:[\s-][A-ZÀ-Þ][\w'-]+)*)")
PROPER = re.compile(r"(?<!^)(?<![.!?:]\s)\b((?:[A-ZÀ-Þ][\w'-]*)(?:\s[A-ZÀ-Þ][\w'-]*)*)")
AFTER_COLON = re.compile(r":\s+(\S.*)\Z", re.DOTALL)
OPTIONS = re.compile(r"following\s+(?:co-?workers?|agents?|roles?|options?|values?)[^:\n]*:\s*\[?([^\n\]]+)", re.IGNORECASE)
_POLITE = re.compile(
    r"^(?:please|kindly|hey|hi|hello|can you|could you|would you|will you|i (?:want|need|would like)(?: you)? to|help me(?: to)?|let'?s"
    r"|now|then|also|and|use (?:the )?[\w-]+(?: tool)? to)[\s,]+",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"^(?:search|look(?: up)?|find(?: out)?|google|query|fetch|get|read|show(?: me)?|tell me|give me|list|ask|calculate|compute|evaluate"
    r"|work out|summari[sz]e|explain|describe|translate|analy[sz]e|research|investigate|remember|check"
    r"|what(?: is|'s| are| was| were)|who (?:is|was|are)|how much (?:is|are))\s+",
    re.IGNORECASE,
)
_WHERE = re.compile(
    r"^(?:(?:through|in|on)\s+)?(?:the\s+)?"
    r"(?:web|internet|online|repository|repo|wiki|documentation|docs|knowledge graph|memory|database)\s+(?=for|about|on|of)",
    re.IGNORECASE,
)
_PREPOSITION = re.compile(r"^(?:for|about|on|of|that|whether|if|up|information (?:about|on))\s+", re.IGNORECASE)

SPEAKER = re.compile(r"\s*([A-ZÀ-Þ][\w'-]*(?: [A-ZÀ-Þ][\w'-]*)?)\s*:\s*(.*)", re.DOTALL)
DOER = re.compile(
    r"\b(?!(?:I|We|You|They|He|She|It|That|This|Some|Somebody|Someone|Everybody|Everyone|Who)\b)([A-ZÀ-Þ][\w'-]*)"
    r"\s+(?:will|shall|has to|must|is going to|needs to|takes)\b"
)
MYSELF = re.compile(r"\b(?:I|I'll|me|my)\b")
DUE = re.compile(
    rf"({DATE.pattern})|\b(?:by|until|before|on)\s+((?:next |this )?(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|tomorrow|tonight"
    r"|the end of (?:the |this |next )?\w+)",
    re.IGNORECASE,
)

Pick = Callable[[str], str | None]


def _first(pattern: re.Pattern[str]) -> Pick:
    def pick(text: str) -> str | None:
        found = pattern.search(text)
        return next((group for group in found.groups() if group), found[0]).strip() if found else None

    return pick


def quoted(text: str) -> list[str]:
    """What stands between quotation marks."""
    return [next(group for group in found if group) for found in QUOTED.findall(text)]


def relevant(text: str) -> str:
    """What a request is about: without courtesy, command and full stop."""
    left = text.strip()
    for pattern in (_POLITE, _POLITE, _COMMAND, _WHERE, _PREPOSITION):
        shorter = pattern.sub("", left, count=1).strip()
        left = shorter or left
    return left.rstrip(" .!?") or text.strip()


def _subject(text: str) -> str | None:
    return next(iter(quoted(text)), None) or relevant(text) or None


def _body(text: str) -> str | None:
    after = AFTER_COLON.search(text)
    return next(iter(quoted(text)), None) or _first(CODE)(text) or (after[1].strip() if after else None)


def _whole(text: str) -> str | None:
    return text.strip() or None


def _name(text: str) -> str | None:
    return next(iter(quoted(text)), None) or _first(PROPER)(text)


def _place(text: str) -> str | None:
    return _first(PLACE)(text) or _name(text)


def _doer(text: str) -> str | None:
    """Who is said to do something: the one who is named before `will`, else the speaker of a line `Name: I …`."""
    spoken = SPEAKER.match(text)
    said = spoken[2] if spoken else text
    named = DOER.search(said)
    if named:
        return named[1]
    return spoken[1] if spoken and MYSELF.search(said) else None


def _expression(text: str) -> str | None:
    formulas = (found[0].strip(" ,.\n") for found in FORMULA.finditer(text))
    return next(filter(OPERATION.search, formulas), None) or next(
        (part for part in quoted(text) if any(c.isdigit() for c in part)), None
    )


KINDS: tuple[tuple[frozenset[str], Pick], ...] = tuple(
    (frozenset(names.split()), pick)
    for names, pick in (
        ("url uri link href endpoint website webpage", _first(URL)),
        ("email recipient mail", _first(EMAIL)),
        ("owner assignee responsible", _doer),
        ("due deadline", _first(DUE)),
        ("date day since until", _first(DATE)),
        ("repo repository", _first(REPOSITORY)),
        ("path file filename directory folder", _first(PATH)),
        ("sql statement", _first(SQL)),
        ("expression formula calculation equation", _expression),
        ("code snippet", _first(CODE)),
        ("city location place country region town", _place),
        ("text content body value note observation message", _body),
        ("question task problem prompt request instruction instructions goal objective issue thought", _whole),
        ("query search q topic keyword keywords term terms phrase subject about", _subject),
        ("name names entity person title username user symbol ticker", _name),
    )
)
"""Ways to find a string by what its field is called; the first that fits counts."""
COLLEAGUES = ("coworker", "agent", "role", "worker", "member", "assistant")
FREE_TEXT = ("message", "text", "content", "description", "input", "query", "context")
"""Fields that, where they are demanded and nothing else fits, are meant to have the request itself."""
FORMATS: Mapping[str, re.Pattern[str]] = {
    "uri": URL,
    "email": EMAIL,
    "date": re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d)(?!\d)"),
    "date-time": re.compile(
        r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d)T[01]\d:[0-5]\d:[0-5]\d(?:\.\d+)?(?:Z|[+-][01]\d:[0-5]\d)"
    ),
}
"""How the formats of strings look that can be found in a text."""


@dataclass(frozen=True)
class Finder:
    """Looks for values in one text. `hint` is the description of the tool that the values are for."""

    text: str
    hint: str = ""
    context: str = ""

    def given(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """The members of a JSON object in the text, if its keys are these names."""
        for found in _objects(self.text):
            if found and found.keys() <= names.keys():
                return found
        return {}

    def named(self, name: str) -> str | None:
        """The value in `name: value` or `name=value`."""
        spelled = r"[\s_-]?".join(re.escape(part) for part in re.split(r"[_\s-]+", name) if part)
        found = re.search(rf"(?<![\w/]){spelled}\s*[:=]\s*(\"[^\"]*\"|'[^']*'|`[^`]*`|[^\s,;]+)", self.text, re.IGNORECASE)
        return found[1].strip("\"'`").rstrip(".") if found else None

    def string(self, name: str, schema: Schema, *, demanded: bool) -> str | _Missing:
        """A string for a field; where it is demanded, also one that is only likely to be meant."""
        if explicit := self.named(name):
            return explicit
        if options := self._options(name, schema):
            anybody = options[0] if demanded and name.lower() in COLLEAGUES else MISSING  # a manager gives work to somebody
            return self.option(options) or anybody
        found = self._by_kind(name, schema)
        if found is None and demanded and name.lower().rsplit("_", 1)[-1] in FREE_TEXT:
            found = relevant(self.text) or None
        return MISSING if found is None else found

    def option(self, options: list[str]) -> str | None:
        """The option that the text names, else the one whose words it shares most of."""
        options = options[:MOST_OPTIONS]
        lowered = self.text.lower()
        for option in sorted(options, key=len, reverse=True):
            if re.search(rf"(?<!\w){re.escape(option.lower())}(?!\w)", lowered):
                return option
        wanted = frozenset(stems(self.text))
        shared = {option: len(wanted & set(stems(option))) for option in options}
        best = max(options, key=lambda option: shared[option], default=None)
        return best if best is not None and shared[best] else None

    def number(self, name: str, schema: Schema, *, demanded: bool) -> float | int | _Missing:
        """A number: the one beside the field's name; where it is demanded, the only one that fits."""
        spoken = r"[\s_-]?".join(re.escape(part) for part in name.split("_"))
        beside = re.search(rf"{spoken}\w*\W{{0,4}}(?:of|to|is|=|:)?\s*({NUMBER.pattern})", self.text, re.IGNORECASE)
        before = re.search(rf"({NUMBER.pattern})\s+\w*{stem(name.rsplit('_', 1)[-1])}", self.text, re.IGNORECASE)
        texts = [found[1] for found in (beside, before) if found]
        if not texts and demanded:
            texts = NUMBER.findall(self.text)
            texts = texts if len(texts) == 1 else []
        fitting = (value for text in texts if (value := _number(text, schema)) is not None)
        return next(fitting, MISSING)

    def boolean(self, name: str) -> bool | _Missing:
        """Whether the text asks for what the field is called, or for its absence."""
        explicit = self.named(name)
        if explicit is not None and explicit.lower() in ("true", "yes", "on", "false", "no", "off"):
            return explicit.lower() in ("true", "yes", "on")
        words = [word for word in stems(name) if word not in ("includ", "with", "enabl")]
        if not words or not set(words) <= set(stems(self.text)):
            return MISSING
        return not re.search(
            rf"\b(?:without|no|not|don't|do not)\s+(?:\w+\s+)?{re.escape(words[0][:5])}", self.text, re.IGNORECASE
        )

    def strings(self, name: str, schema: Schema) -> list[str]:
        """Strings for a list: all that is quoted, else all of the kind that the field is called."""
        if found := quoted(self.text):
            return found
        for names, pattern in ((("url", "link", "uri"), URL), (("email", "recipient"), EMAIL), (("path", "file"), PATH)):
            if any(word in name.lower() for word in names):
                return [match[0] for match in pattern.finditer(self.text)]
        one = self.string(name.removesuffix("s"), schema, demanded=False)
        return [] if isinstance(one, _Missing) else re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", one)

    def _options(self, name: str, schema: Schema) -> list[str]:
        """What a description lists; a tool's own says whom it may be given to."""
        hint = self.hint if name.lower() in COLLEAGUES else ""
        told = OPTIONS.search(str(schema.get("description", ""))) or OPTIONS.search(hint)
        return [part.strip(" '\"`.") for part in told[1].split(",") if part.strip(" '\"`.")] if told else []

    def _by_kind(self, name: str, schema: Schema) -> str | None:
        described = str(schema.get("description", "")).lower()
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
        if "context" in words or "background" in words:
            return self.context or _whole(self.text)
        if form := FORMATS.get(str(schema.get("format"))):
            return _first(form)(self.text)
        if "owner/" in described or ("repo" in words and "name" in words):
            return _first(REPOSITORY)(self.text) or _first(URL)(self.text)
        if "sql" in described or ("query" in words and re.search(r"\bSQL\b", self.hint)):
            return _first(SQL)(self.text)
        kind = next((pick for names, pick in KINDS if not names.isdisjoint(words)), None)
        return kind(self.text) if kind else None


def _number(text: str, schema: Schema) -> float | int | None:
    plain = text.replace(",", "")
    value = float(plain)
    if schema.get("type") == "integer":
        if not value.is_integer():
            return None
        value = int(value)
    elif re.fullmatch(r"-?\d+", plain):
        value = int(plain)
    low, high = schema.get("minimum"), schema.get("maximum")
    return None if (low is not None and value < low) or (high is not None and value > high) else value


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, those within others aside."""
    decoder, at, tries = json.JSONDecoder(), 0, 0
    while (at := text.find("{", at)) >= 0 and tries < MOST_OBJECTS:
        tries += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(value, dict):
            yield value

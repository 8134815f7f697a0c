"""Makes a value that is valid against a JSON schema, out of what the conversation says; where it says nothing, the least that is valid.

It follows the keywords of JSON Schema that structured output uses (types, enum, const, anyOf, references, limits of numbers, strings
and lists, pattern, format). The result is checked against the schema; a schema for which no valid value is found is refused.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, UnknownType, ValidationError
from referencing.exceptions import Unresolvable

from auralink.llm.offline.finding import FORMATS, MISSING, READ, Finder, Schema, relevant
from auralink.llm.offline.schemas import Endless, alternatives, resolved, type_of
from auralink.llm.offline.words import ranked, sentences, stems

DEEPEST = 12
SIMPLER_FROM = 4
"""From this depth on the simplest alternative is taken, so that a schema that contains itself comes to an end."""
LONGEST_LIST = 5
MOST_VALUES = 5_000
MOST_DEMANDED = 1_000
"""Items or characters that a schema may demand at least of one value, and a hundred times that of characters."""
PATIENT, HASTY = (64, 300), (12, 100)
"""How long the words are, and how many, that are tried on a pattern: a pattern can be made to take for ever, so one that repeats groups
or many things gets few and short ones."""
TOLD = frozenset(
    [
        "summary",
        "answer",
        "conclusion",
        "result",
        "text",
        "content",
        "response",
        "explanation",
        "reason",
        "reasoning",
        "description",
        "output",
        "analysis",
        "message",
    ]
)
"""Fields that are given several sentences."""
ENDINGS = frozenset(("finish", "end", "done", "__end__", "none", "stop", "complete"))
"""Options that mean that nobody is to go on."""
NEUTRAL: Mapping[str, str] = {
    "date": "1970-01-01",
    "time": "00:00:00Z",
    "date-time": "1970-01-01T00:00:00Z",
    "duration": "PT0S",
    "email": "unknown@example.com",
    "uri": "about:blank",
    "hostname": "localhost",
    "ipv4": "127.0.0.1",
    "ipv6": "::",
    "uuid": "00000000-0000-0000-0000-000000000000",
}  # fmt: skip
PROBES = ("", "a", "A", "0", "1", "ab", "AB", "abc", "ABC", "a1", "A1", "00", "000", "0000", "00000", "000-000-0000", "a-b", "a_b",
          "a.b", "a/b", "#000000", "1.0.0", "v1.0.0", *NEUTRAL.values())  # fmt: skip


class Impossible(ValueError):
    """No valid value is found for a schema."""


@dataclass(frozen=True)
class Material:
    """What values are made of."""

    request: str
    texts: Sequence[str]
    speakers: frozenset[str] = frozenset()
    """Who has spoken already."""

    @cached_property
    def wanted(self) -> frozenset[str]:
        """What the request is about."""
        return frozenset(stems(self.request))

    @cached_property
    def best_first(self) -> list[str]:
        """The sentences of the texts, best first."""
        lines = [line for text in self.texts for line in sentences(text[: 4 * READ])]
        return [sentence for _, _, sentence in ranked(lines, self.wanted)]

    def for_list(self, schema: Schema, items: Schema, most: int) -> list[str]:
        """The sentences that a list is made of, in their order: those with words of its description, else of the request.

        A list of objects is also made of sentences that have a value for each of the fields that may be null. Where there is no such
        sentence, a list that may be empty (`minItems` is given as 0) is empty; any other has the first sentences.
        """
        described = frozenset(stems(str(schema.get("description") or "")))
        lines = list(dict.fromkeys(line for text in self.texts for line in sentences(text[: 4 * READ])))
        scored = ranked(lines, described or self.wanted)
        found = [item for item in scored if item[0] > 0 or _has_all(item[2], items)]
        if not found and schema.get("minItems") != 0:
            return self.best_first[: min(most, LONGEST_LIST)]
        return [line for _, _, line in sorted(found[:most], key=lambda item: item[1])]

    @cached_property
    def known(self) -> Mapping[str, Any]:
        """The members of the JSON objects among the texts, whatever their depth; the first of a name counts."""
        found: dict[str, Any] = {}
        for text in self.texts:
            if text.lstrip()[:1] in ("{", "["):
                try:
                    value = orjson.loads(text)
                except orjson.JSONDecodeError:
                    continue
                for name, member in _members(value, 0):
                    found.setdefault(name, member)
        return found


def produce(schema: Schema, material: Material) -> Any:
    """A value that is valid against the schema.

    Raises:
        Impossible: none is found; the message says where.
    """
    try:
        _check_keywords(schema)
        value = _Producer(schema, material).value("", schema, 0, Finder(_joined(material)))
        Draft202012Validator(schema).validate(value)
    except Endless as error:
        raise Impossible(str(error)) from error
    except ValidationError as error:
        raise Impossible(f"no value was found for {error.json_path}: {error.message[:200]}") from error
    except RecursionError:
        raise Impossible("it is nested too deep") from None
    except Impossible:
        raise
    except (SchemaError, UnknownType, Unresolvable, re.error, TypeError, AttributeError, ValueError, LookupError) as error:
        raise Impossible(f"it is no valid schema: {str(error)[:200]}") from error
    return value


@dataclass(frozen=True)
class _Producer:
    root: Schema
    material: Material
    _nothing: Finder = field(default_factory=lambda: Finder(""))
    _made: Iterator[int] = field(default_factory=lambda: iter(range(MOST_VALUES)))

    def value(self, name: str, schema: object, depth: int, finder: Finder) -> Any:
        if depth > DEEPEST or next(self._made, None) is None:
            raise Endless("it demands objects within objects without end")
        plain = resolved(schema, self.root)
        if "const" in plain:
            return plain["const"]
        if "enum" in plain:
            return self._option(name, plain["enum"], finder)
        if choices := alternatives(plain):
            return self._alternative(name, choices, depth, finder)
        known = self.material.known.get(name, MISSING)
        if known is not MISSING and self._is_known_to_fit(known, plain):
            return known
        return self._of_type(name, plain, depth, finder)

    def _of_type(self, name: str, schema: Schema, depth: int, finder: Finder) -> Any:
        match type_of(schema):
            case "object":
                return self._object(schema, depth, finder)
            case "array":
                return self._list(name, schema, depth, finder)
            case "integer" | "number":
                return _number(name, schema, finder)
            case "boolean":
                found = finder.boolean(name)
                return False if found is MISSING else found
            case "null":
                return None
            case _:
                return self._string(name, schema, finder)

    def _alternative(self, name: str, choices: Sequence[Any], depth: int, finder: Finder) -> Any:
        if depth >= SIMPLER_FROM:
            simplicity = ("null", "boolean", "integer", "number", "string", None, "array", "object")
            choices = sorted(choices, key=lambda choice: simplicity.index(type_of(resolved(choice, self.root))))
        for choice in choices:
            try:
                return self.value(name, choice, depth + 1, finder)
            except (Impossible, Endless):
                continue
        raise Impossible(f"no alternative is possible for {name!r}")

    def _option(self, name: str, options: Sequence[Any], finder: Finder) -> Any:
        """The option that the text is about; of agents one that has not spoken, and the end when all have that the text is about."""
        left = [option for option in options if option not in self.material.speakers]
        by_name = {str(option): option for option in left}
        ending = next((option for option in options if str(option).lower() in ENDINGS), None)
        explicit = finder.named(name) if name else None
        texts = [] if explicit is None else [explicit]
        for text in (*texts, self.material.request, finder.text):
            found = Finder(text).option([each for each in by_name if each.lower() not in ENDINGS])
            if found is not None:
                return by_name[found]
        return ending if ending is not None else (left or list(options))[0]

    def _object(self, schema: Schema, depth: int, finder: Finder) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = schema.get("required") or ()
        made = {name: self.value(name, properties.get(name, {}), depth + 1, finder) for name in required}
        for name, member in properties.items():
            known = self.material.known.get(name, MISSING)
            if name not in made and known is not MISSING and self._is_known_to_fit(known, resolved(member, self.root)):
                made[name] = known
        return {name: made[name] for name in (*properties, *required) if name in made}

    def _list(self, name: str, schema: Schema, depth: int, finder: Finder) -> list[Any]:
        least, most = _least(schema, "minItems", MOST_DEMANDED), int(schema.get("maxItems", LONGEST_LIST))
        first = [self.value(name, item, depth + 1, finder) for item in schema.get("prefixItems") or ()]
        items = schema.get("items", {})
        if items is False:
            return first
        single = name.removesuffix("s")
        sources = self.material.for_list(schema, resolved(items, self.root), most) if depth < SIMPLER_FROM else []
        wanted = max(least, min(most, len(sources))) - len(first)
        made = list(first)
        for turn in range(max(0, wanted)):
            source = Finder(sources[turn]) if turn < len(sources) else self._nothing
            item = self.value(single, items, depth + 1, source)
            if item in made and len(made) >= least:
                continue
            if item in made and schema.get("uniqueItems"):
                item = self._another(item, made, resolved(items, self.root))
            if item is not MISSING:
                made.append(item)
        if len(made) < least:
            raise Impossible(f"{name!r} needs {least} different items")
        return made

    def _another(self, item: Any, taken: Sequence[Any], schema: Schema) -> Any:
        """A value that is not among those taken."""
        others: Iterator[Any] = iter(schema.get("enum", ()))
        if "enum" not in schema and isinstance(item, str):
            others = (f"{item} ({number})" for number in range(2, len(taken) + 3))
        elif "enum" not in schema and isinstance(item, int | float) and not isinstance(item, bool):
            step = schema.get("multipleOf", 1)
            others = (item + sign * step * count for count in range(1, len(taken) + 2) for sign in (1, -1))
        elif isinstance(item, bool):
            others = iter((not item,))
        return next((other for other in others if other not in taken and self._fits(other, schema)), MISSING)

    def _string(self, name: str, schema: Schema, finder: Finder) -> str | None:
        if "pattern" in schema or schema.get("format") in NEUTRAL:
            return self._formed(name, schema, finder)
        if _may_be_null(schema) and name.lower() not in TOLD:
            found = finder.string(name, schema, demanded=False)
            return found if isinstance(found, str) else None
        text = self._told(name, schema, finder)
        least, most = _least(schema, "minLength", 100 * MOST_DEMANDED), schema.get("maxLength")
        if len(text) < least:
            text = " ".join([text, *self.material.best_first, self.material.request]).strip()
        text = text if most is None else text[: int(most)]
        return text if len(text) >= least else text.ljust(least, ".")

    def _told(self, name: str, schema: Schema, finder: Finder) -> str:
        """The text for a field: by what it is called, else the sentence that says most of what is wanted."""
        if name.lower().rsplit("_", 1)[-1] in TOLD and finder is not self._nothing:
            return " ".join(self.material.best_first[:3]) or relevant(self.material.request)
        found = finder.string(name, schema, demanded=True)
        if isinstance(found, str):
            return found
        if finder.text and finder.text in self.material.best_first:
            return finder.text
        return next(iter(self.material.best_first), None) or relevant(self.material.request)

    def _formed(self, name: str, schema: Schema, finder: Finder) -> str:
        found = finder.string(name, schema, demanded=True)
        longest, count = PATIENT if _is_simple(str(schema.get("pattern", ""))) else HASTY
        words = [word.strip("\"'`.,;:()") for text in self.material.texts for word in text[:READ].split()][:count]
        told = (str(found) if isinstance(found, str) else "", *words, NEUTRAL.get(str(schema.get("format")), ""), *PROBES)
        least = _least(schema, "minLength", longest)
        for text in (*told, *(probe * least for probe in ("a", "A", "0"))):
            if len(text) <= longest and self._fits(text, schema) and _has_format(text, schema):
                return text
        raise Impossible(f"nothing matches the pattern of {name!r}")

    def _is_known_to_fit(self, value: Any, schema: Schema) -> bool:
        """Whether a value of a tool's fits; one with a pattern in its schema is not tried, for it may be long."""
        return b'"pattern"' not in orjson.dumps([schema, self.root]) and self._fits(value, schema)

    def _fits(self, value: Any, schema: Schema) -> bool:
        definitions = {name: self.root[name] for name in ("$defs", "definitions") if name in self.root}
        return bool(Draft202012Validator({**definitions, **schema}).is_valid(value))


def _has_all(sentence: str, items: Schema) -> bool:
    """Whether a sentence has a value for each field of an object that may be null."""
    fields = {name: field for name, field in (items.get("properties") or {}).items() if _may_be_null(field)}
    finder = Finder(sentence)
    return bool(fields) and all(isinstance(finder.string(name, field, demanded=False), str) for name, field in fields.items())


def _may_be_null(schema: Schema) -> bool:
    return isinstance(schema, Mapping) and isinstance(schema.get("type"), list) and "null" in schema["type"]


def _is_simple(pattern: str) -> bool:
    return re.search(r"\)[*+{]", pattern) is None and sum(pattern.count(sign) for sign in "*+{") <= 3


def _least(schema: Schema, keyword: str, most: int) -> int:
    least = int(schema.get(keyword, 0))
    if least > most:
        raise Impossible(f"{keyword} {least} is too much")
    return least


def _check_keywords(schema: object) -> None:
    """Refuses keywords whose patterns would be tried on names."""
    written = orjson.dumps(schema)
    for keyword in ("patternProperties", "propertyNames"):
        if f'"{keyword}"'.encode() in written:
            raise Impossible(f"{keyword} is not followed")


def _has_format(text: str, schema: Schema) -> bool:
    name = str(schema.get("format"))
    form = FORMATS.get(name)
    return name not in NEUTRAL or text == NEUTRAL[name] or (form is not None and form.fullmatch(text) is not None)


def _number(name: str, schema: Schema, finder: Finder) -> float | int:
    """The number beside the field's name, else the one nearest to 0 that is valid."""
    whole, step = type_of(schema) == "integer", schema.get("multipleOf")
    found = finder.number(name, {**schema, "type": type_of(schema)}, demanded=False)
    if isinstance(found, int | float) and Draft202012Validator(schema).is_valid(found):
        return found
    unit = step or (1 if whole else None)
    low = max((schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema), default=-math.inf)
    high = min((schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema), default=math.inf)
    near = min(max(0, low), high)
    if unit is None:
        between = (low + high) / 2 if math.isfinite(low + high) else near + (1 if low == near else -1)
        candidates = [near, between]
    else:
        middle = round(near / unit)
        candidates = [(middle + offset) * unit for offset in (0, 1, -1, 2, -2)]
    valid = (value for value in candidates if Draft202012Validator(schema).is_valid(value))
    number = next(valid, None)
    if number is None:
        raise Impossible(f"no number is valid for {name!r}")
    return int(number) if whole else number


def _members(value: object, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        return
    if isinstance(value, dict):
        yield from value.items()
        for member in value.values():
            yield from _members(member, depth + 1)
    elif isinstance(value, list):
        for item in value[:LONGEST_LIST]:
            yield from _members(item, depth + 1)


def _joined(material: Material) -> str:
    return "\n".join(dict.fromkeys((material.request, *material.texts)))[:READ]

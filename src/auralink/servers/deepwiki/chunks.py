"""A file as the passages that can be found and quoted.

Prose is cut by heading section, code by definition, everything else into windows of lines. Every line of the file that
is not blank belongs to exactly one passage, so a quotation always has a place.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from auralink.servers.deepwiki.definitions import Definition, Outline, outline
from auralink.servers.deepwiki.selection import PROSE

MAX_FILE_BYTES = 1 << 20
_WHOLE_CLASS = 60
_WINDOW = 60
_LONG_LINE = 4_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: lines from 1, inclusive; `heading` is the section or the definition it stands in."""

    kind: str
    line: int
    end_line: int
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What the index keeps of one file."""

    title: str
    outline: Outline
    chunks: tuple[Chunk, ...]


def parse(path: str, data: bytes) -> ParsedFile | None:
    """The passages of a file; None if it is binary, over 1 MiB or made of machine-written long lines."""
    if len(data) > MAX_FILE_BYTES or b"\0" in data[:8192]:
        return None
    lines = data.decode("utf-8", "replace").splitlines()
    if not lines or max(map(len, lines)) > _LONG_LINE:
        return None
    suffix = path[path.rfind(".") :].lower() if "." in path else ""
    if suffix in PROSE:
        return _parse_prose(lines, suffix)
    found = outline(path, data)
    if found is None:
        return ParsedFile("", Outline(), tuple(_windows(lines, 1, len(lines), "text", "")))
    return ParsedFile("", found, tuple(_code_chunks(lines, found.definitions)))


# Prose


def _parse_prose(lines: list[str], suffix: str) -> ParsedFile:
    headings = list(_rst_headings(lines) if suffix == ".rst" else _marked_headings(lines))
    chunks: list[Chunk] = []
    trail: list[tuple[int, str]] = []
    starts = [*headings, (len(lines) + 1, 0, "")]
    if headings and headings[0][0] > 1:
        chunks += _windows(lines, 1, headings[0][0] - 1, "prose", "")
    begin = 0
    for (line, level, heading), (following, _, _) in pairwise(starts):
        trail = [entry for entry in trail if entry[0] < level] + [(level, heading)]
        begin = begin or line
        if following <= len(lines) and not any(text.strip() for text in lines[line + (suffix == ".rst") : following - 1]):
            continue  # a heading with nothing below it opens the passage of the next one
        chunks += _windows(lines, begin, following - 1, "prose", " › ".join(name for _, name in trail))
        begin = 0
    if not headings:
        chunks += _windows(lines, 1, len(lines), "prose", "")
    title = headings[0][2] if headings else ""
    return ParsedFile(title, Outline(purpose=_first_prose(lines)), tuple(chunks))


def _marked_headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Markdown and AsciiDoc: (line, level, text) of `#`, `=` and underlined headings outside of code fences."""
    fence = ""
    for number, line in enumerate(lines, 1):
        mark = re.match(r"\s{0,3}(```+|~~~+)", line)
        if mark:
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1][:3]
        elif not fence and (match := re.match(r"(#{1,6}|={2,6})\s+(.+?)\s*#*$", line)):
            yield number, len(match[1]), _plain(match[2])
        elif not fence and number > 1 and re.fullmatch(r"=+\s*|-{3,}\s*", line) and _is_title(lines, number - 2):
            yield number - 1, 1 if line[0] == "=" else 2, _plain(lines[number - 2])


def _is_title(lines: list[str], index: int) -> bool:
    title = lines[index]
    alone = index == 0 or not lines[index - 1].strip()
    return alone and bool(re.match(r"[A-Za-z0-9`*\[]", title)) and not title.startswith("- ")


def _rst_headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    levels: list[str] = []
    for index in range(1, len(lines)):
        rule, title = lines[index].rstrip(), lines[index - 1].rstrip()
        if not re.fullmatch(r"([=\-~^\"'`#*+.:_])\1{2,}", rule) or not title or title[0].isspace() or len(rule) < len(title):
            continue
        if re.fullmatch(r"([=\-~^\"'`#*+.:_])\1{2,}", title):
            continue
        over = index > 1 and lines[index - 2].rstrip() == rule
        style = rule[0] * (2 if over else 1)
        if style not in levels:
            levels.append(style)
        yield index - over, levels.index(style) + 1, _plain(title)


def _plain(heading: str) -> str:
    heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[*`]|</?\w[^>]*>", "", heading).strip()


def _first_prose(lines: list[str]) -> str:
    paragraph: list[str] = []
    for line in lines[:120]:
        text = line.strip()
        if re.match(r"[A-Za-z0-9*`_“\"(]", text) and not re.match(r"(=|-|~|\.\.)", text):
            paragraph.append(text)
        elif paragraph:
            joined = " ".join(paragraph)
            if len(joined) > 40:
                break
            paragraph = []
    return _plain(" ".join(paragraph))[:400]


# Code and the rest


def _code_chunks(lines: list[str], definitions: Sequence[Definition]) -> Iterator[Chunk]:
    yield from _spans(lines, 1, len(lines), "", definitions)


def _spans(lines: list[str], start: int, end: int, owner: str, parts: Sequence[Definition]) -> Iterator[Chunk]:
    """The passages of lines start..end: the definitions in it, and what lies between them as their owner's."""
    at = start
    for part in parts:
        if part.line < at or part.end_line > end:
            continue
        yield from _windows(lines, at, part.line - 1, "code", owner)
        if part.members and part.end_line - part.line >= _WHOLE_CLASS:
            yield from _spans(lines, part.line, part.end_line, part.name, part.members)
        else:
            yield from _windows(lines, part.line, part.end_line, "code", part.name)
        at = part.end_line + 1
    yield from _windows(lines, at, end, "code", owner)


def _windows(lines: list[str], start: int, end: int, kind: str, heading: str) -> Iterator[Chunk]:
    """Lines start..end without blank borders, in windows that end at a blank line where one is near."""
    while end >= start and not lines[end - 1].strip():
        end -= 1
    while start <= end:
        if not lines[start - 1].strip():
            start += 1
            continue
        stop = end if end - start < _WINDOW * 1.5 else _cut(lines, start)
        yield Chunk(kind, start, stop, heading, "\n".join(lines[start - 1 : stop]))
        start = stop + 1


def _cut(lines: list[str], start: int) -> int:
    latest = start + _WINDOW
    return next((number for number in range(latest, latest - _WINDOW // 2, -1) if not lines[number - 1].strip()), latest)

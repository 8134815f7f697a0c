"""The bounded child of `fetch_page`: `python -I -m auralink.servers.toolbox.reader`, one JSON request on stdin.

In: `{"html", "url"}`. Out: `{"title", "description", "text", "links"}`. The text is the part of the page that a reader came for,
as light Markdown: headings, lists, quotes, code and table rows keep their form; menus, scripts and hidden parts are left out.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from auralink.servers.toolbox.bounded import limit, serve

if __name__ == "__main__":
    # Before the parser is loaded.
    limit(memory_bytes=1024 * 1024 * 1024, cpu_seconds=8)

from lxml import html as lxml_html  # type: ignore[import-untyped]
from lxml.etree import ParserError  # type: ignore[import-untyped]

MAX_LINKS = 200
MAX_DEPTH = 200
MAX_CANDIDATES = 40
# Less text than this, or a smaller share of the page's, is not the article but a teaser that happens to be marked as one.
LEAST_ARTICLE = 200
LEAST_SHARE = 0.25

_SKIPPED = frozenset(
    [
        *("script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "canvas", "audio", "video"),
        *("button", "select", "input", "textarea", "nav", "aside", "head", "dialog", "menu"),
    ]
)
_SKIPPED_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "menu", "dialog", "alertdialog"})
_BLOCKS = frozenset(
    [
        *("address", "article", "blockquote", "body", "br", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption"),
        *("figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "section"),
        *("summary", "table", "tbody", "td", "th", "thead", "ul"),
    ]
)
_HEADING = re.compile(r"h[1-6]")
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")

Element = Any


def read_page(request: dict[str, Any]) -> dict[str, Any]:
    """Title, description, readable text and links of a page; links are absolute, http or https, each once."""
    parser = lxml_html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = lxml_html.document_fromstring(request["html"].encode("utf-8", "replace"), parser=parser)
    except ParserError:
        return {"title": "", "description": "", "text": "", "links": []}
    article = _article(root)
    return {
        "title": _title(root),
        "description": _description(root),
        "text": _Writer().write(article),
        "links": _links(root, article, request["url"]),
    }


def _title(root: Element) -> str:
    for found in (root.xpath("//meta[@property='og:title']/@content"), root.xpath("//title/text()"), root.xpath("//h1//text()")):
        if title := _SPACE.sub(" ", " ".join(found)).strip():
            return title[:500]
    return ""


def _description(root: Element) -> str:
    found = root.xpath("//meta[@name='description' or @property='og:description']/@content")
    return _SPACE.sub(" ", found[0]).strip()[:1000] if found else ""


def _article(root: Element) -> Element:
    """The element that holds what the page is about: the longest `main` or `article` if it carries weight, else the body."""
    body = next(iter(root.xpath("//body")), root)
    candidates = root.xpath("//main | //article | //*[@role='main']")[:MAX_CANDIDATES]
    if not candidates:
        return body
    lengths = [_length(c) for c in candidates]
    longest = max(range(len(candidates)), key=lengths.__getitem__)
    enough = lengths[longest] >= max(LEAST_ARTICLE, LEAST_SHARE * _length(body))
    return candidates[longest] if enough else body


def _length(element: Element) -> int:
    return len(_Writer().write(element))


def _is_skipped(element: Element) -> bool:
    if not isinstance(element.tag, str) or element.tag in _SKIPPED or element.get("role") in _SKIPPED_ROLES:
        return True
    if element.tag in {"header", "footer"} and next(element.iterancestors("main", "article"), None) is None:
        return True
    hidden = element.get("hidden") is not None or element.get("aria-hidden") == "true"
    return hidden or bool(_HIDDEN_STYLE.search(element.get("style", "")))


def _links(root: Element, article: Element, url: str) -> list[dict[str, str]]:
    base = _absolute(url, next(iter(root.xpath("//base/@href")), "")) or url
    found: dict[str, str] = {}
    for anchor in article.iter("a"):
        target = _absolute(base, anchor.get("href", ""))
        text = _SPACE.sub(" ", "".join(anchor.itertext())).strip()[:200]
        if target and text and len(found) < MAX_LINKS:
            found.setdefault(target, text)
    return [{"url": target, "text": text} for target, text in found.items()]


def _absolute(base: str, href: str) -> str:
    try:
        target = urljoin(base, href.strip()).split("#")[0]
    except ValueError:
        return ""
    return target if target.startswith(("http://", "https://")) and len(target) <= 2000 else ""


class _Writer:
    """Writes an element as text. Lines are collected, so that two blocks that touch share one blank line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._inline: list[str] = []

    def write(self, element: Element) -> str:
        self._element(element, depth=0)
        self._flush()
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._lines)).strip()

    def _element(self, element: Element, depth: int) -> None:
        tag = element.tag
        if depth > MAX_DEPTH or _is_skipped(element):
            return
        if tag == "pre":
            self._verbatim(element)
        elif tag == "tr":
            self._row(element)
        elif tag in _BLOCKS:
            self._block(element, depth)
        else:
            self._children(element, depth)

    def _children(self, element: Element, depth: int) -> None:
        self._inline.append(element.text or "")
        for child in element:
            self._element(child, depth + 1)
            self._inline.append(child.tail or "")

    def _block(self, element: Element, depth: int) -> None:
        tag = element.tag
        self._flush()
        if tag not in {"li", "br", "dd", "dt"}:
            self._lines.append("")
        self._inline.append(_prefix(tag))
        self._children(element, depth)
        self._flush()
        if _HEADING.fullmatch(tag) or tag in {"p", "ul", "ol", "table", "blockquote"}:
            self._lines.append("")

    def _verbatim(self, element: Element) -> None:
        self._flush()
        text = "".join(element.itertext()).strip("\n")
        if text.strip():
            self._lines += ["", "```", text, "```", ""]

    def _row(self, row: Element) -> None:
        self._flush()
        cells = [_SPACE.sub(" ", " ".join(_visible_text(c))).strip() for c in row if c.tag in {"td", "th"}]
        if any(cells):
            self._lines.append(" | ".join(cells))

    def _flush(self) -> None:
        line = _SPACE.sub(" ", "".join(self._inline)).strip()
        self._inline.clear()
        if line and line not in {"-", ">"} and line.strip("# "):
            self._lines.append(line)


def _prefix(tag: str) -> str:
    if _HEADING.fullmatch(tag):
        return "#" * int(tag[1]) + " "
    return {"li": "- ", "blockquote": "> "}.get(tag, "")


def _visible_text(element: Element) -> Iterator[str]:
    stack: list[tuple[Element, bool]] = [(element, False)]
    while stack:
        node, tail_only = stack.pop()
        if tail_only:
            yield node.tail or ""
            continue
        if node is not element:
            stack.append((node, True))
        if not _is_skipped(node):
            yield node.text or ""
            stack.extend((child, False) for child in reversed(node))


if __name__ == "__main__":
    serve(read_page)

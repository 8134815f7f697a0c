"""What the wiki answers with: the output schemas of its tools."""

from typing import Literal

from pydantic import BaseModel, Field


class Source(BaseModel):
    """A quotation: where it stands and what it says. Lines count from 1 and are inclusive."""

    file: str
    line: int
    end_line: int
    heading: str = Field(description="Section heading or qualified definition the lines belong to; may be empty")
    excerpt: str = Field(description="The lines, verbatim")
    score: float = Field(description="Rank within this result; higher is better")


class Result(BaseModel):
    """What every answer says of its repository."""

    repo_name: str
    commit: str | None = Field(description="The commit that was read; null for a folder without git")


class Answer(Result):
    """Passages that answer a question, or `found: false` and none."""

    question: str
    found: bool
    answer: str
    sources: list[Source]
    confidence: float = Field(ge=0, le=1, description="Estimated probability that the sources answer the question")


class SearchResult(Result):
    """Passages that match a query, best first."""

    query: str
    hits: list[Source]


class PageRef(BaseModel):
    """An entry of the table of contents."""

    id: str
    title: str
    kind: Literal["document", "folder", "module"]
    children: list["PageRef"] = []


class Structure(Result):
    """The table of contents: documents first, then the code by folder."""

    pages: list[PageRef]
    truncated: bool = False


class Page(BaseModel):
    """A page of the wiki, in Markdown."""

    id: str
    title: str
    content: str


class Contents(Result):
    """One page for a topic, or all pages up to a size."""

    pages: list[Page]
    truncated: bool = False

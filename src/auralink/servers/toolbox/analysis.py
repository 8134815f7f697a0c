"""Analyses source code in a bounded child process (`analyze.py`): parsed and measured, never run."""

from typing import Literal

from auralink.servers.toolbox.children import Child
from auralink.servers.toolbox.errors import AnalysisRefused, ChildFailed, ChildRefused
from auralink.servers.toolbox.schemas import CodeAnalysis

MAX_CHARACTERS = 400_000

SourceLanguage = Literal[
    "python", "javascript", "typescript", "tsx", "go",
    "java", "c", "cpp", "csharp", "rust", "ruby", "php", "swift", "kotlin", "scala", "lua",
]  # fmt: skip


class CodeAnalyzer:
    """Answers one file at a time in a child of its own; a few run at once."""

    def __init__(self) -> None:
        self._child = Child("auralink.servers.toolbox.analyze", what="The analysis", seconds=12)

    async def analyze(self, code: str, language: SourceLanguage) -> CodeAnalysis:
        """Structure, metrics and findings of one file.

        Raises:
            AnalysisRefused: longer than `MAX_CHARACTERS`, nested too deeply, or beyond the time or memory of one analysis.
        """
        if len(code) > MAX_CHARACTERS:
            raise AnalysisRefused(
                f"The code has {len(code):,} characters; {MAX_CHARACTERS:,} are read. Send one file, or a part of it, at a time."
            )
        try:
            answer = await self._child.ask({"code": code, "language": language})
        except ChildFailed as failure:
            raise AnalysisRefused(f"{failure.message}. Send a smaller part of the code.") from None
        except ChildRefused as refusal:
            raise AnalysisRefused(refusal.message) from None
        return CodeAnalysis.model_validate({"language": language, **answer})

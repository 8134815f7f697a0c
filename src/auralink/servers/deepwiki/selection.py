"""Which files of a repository are worth reading, told by their paths."""

import re

PROSE = frozenset({".md", ".markdown", ".mdx", ".rst", ".txt", ".adoc"})
CODE = (".py", ".pyi", ".go", ".js", ".jsx", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".tsx")
_BINARY = frozenset(
    """.png .jpg .jpeg .gif .webp .ico .bmp .svg .pdf .zip .gz .tgz .bz2 .xz .zst .7z .jar .war .whl .egg .so .dylib .dll
    .exe .bin .o .a .class .pyc .wasm .woff .woff2 .ttf .otf .eot .mp3 .mp4 .mov .webm .ogg .wav .sqlite .db .parquet
    .npy .npz .pkl .onnx .pt .mo .map .pem .key .p12 .pfx .jks""".split()  # noqa: SIM905 - words read better as words
)
_LOCK_FILES = frozenset(
    """package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock poetry.lock pipfile.lock uv.lock pdm.lock
    cargo.lock composer.lock gemfile.lock go.sum flake.lock""".split()  # noqa: SIM905 - words read better as words
)
_VENDORED = frozenset(
    """node_modules vendor vendored _vendor third_party bower_components site-packages .venv venv __pycache__ .git .tox
    .mypy_cache .ruff_cache .pytest_cache .eggs""".split()  # noqa: SIM905 - words read better as words
)


def is_indexed(path: str) -> bool:
    """Whether a path is worth reading at all: not binary, generated, locked or another project's."""
    *folders, name = path.lower().split("/")
    if not _VENDORED.isdisjoint(folders) or name in _LOCK_FILES or ".min." in name:
        return False
    dot = name.rfind(".")
    return dot < 0 or name[dot:] not in _BINARY


_HISTORY = re.compile(r"(^|/)(changelog|changes|history|news|release[-_ ]?notes)[^/]*$", re.IGNORECASE)
_TEST = re.compile(r"(^|/)(tests?|testing|__tests__|spec|e2e)/|(^|/)(test_[^/]*|[^/]*[._](test|spec))\.\w+$", re.IGNORECASE)
_ASIDE = re.compile(r"(^|/)(examples?|samples?|bench(marks)?)/", re.IGNORECASE)


def is_history(path: str) -> bool:
    """A change log: it mentions everything and explains nothing."""
    return _HISTORY.search(path) is not None


def is_test(path: str) -> bool:
    """Test code."""
    return _TEST.search(path) is not None


def is_aside(path: str) -> bool:
    """What uses the repository's subject rather than being it: tests, examples, benchmarks, change logs."""
    return is_test(path) or is_history(path) or _ASIDE.search(path) is not None

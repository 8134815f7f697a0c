"""The content of messages, read: text, and files as URLs or as data in the URL (RFC 2397)."""

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from auralink.llm.errors import UnsupportedField


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes in base64, and what they are."""

    media_type: str
    base64: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a request something stands, so that a refusal can name it."""

    provider: str
    path: str

    def below(self, step: str | int) -> "Place":
        """A member or an element of this place."""
        return Place(self.provider, f"{self.path}[{step}]" if isinstance(step, int) else f"{self.path}.{step}")

    def refused(self, why: str) -> UnsupportedField:
        """The error that names this place."""
        return UnsupportedField(self.path, self.provider, why)


def parts_of(content: object) -> list[Mapping[str, Any]]:
    """The parts of a message's content; text alone is one part, nothing is none."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [part if isinstance(part, Mapping) else {"type": "text", "text": str(part)} for part in _items(content)]


def texts_of(content: object, place: Place) -> Iterator[Mapping[str, Any]]:
    """The text parts of content that may hold nothing else (a refusal of the model's counts as text).

    Raises:
        UnsupportedField: there is another kind of part.
    """
    for index, part in enumerate(parts_of(content)):
        if part.get("type") == "refusal":
            yield {"type": "text", "text": str(part.get("refusal", ""))}
        elif part.get("type") == "text":
            yield part
        else:
            raise place.below("content").below(index).refused(f"a part of type {part.get('type')!r} cannot stand here")


def url_of(part: Mapping[str, Any], place: Place) -> str:
    """The URL of an image part. `detail: low` is refused: it asks for a cheaper reading that only OpenAI offers."""
    image = part.get("image_url")
    if isinstance(image, str):
        return image
    if not isinstance(image, Mapping) or not isinstance(image.get("url"), str):
        raise place.below("image_url").refused("it has no url")
    if image.get("detail") == "low":
        raise place.below("image_url").below("detail").refused("images are always read in full")
    return str(image["url"])


def data_of(url: str, place: Place) -> Data | None:
    """The data in a `data:` URL; None for any other URL.

    Raises:
        UnsupportedField: a `data:` URL whose data is not base64.
    """
    if not url.startswith("data:"):
        return None
    head, _, data = url[len("data:") :].partition(",")
    media_type, *parameters = head.split(";")
    if "base64" not in parameters or not data:
        raise place.refused("a data: URL must be base64")
    return Data(media_type or "application/octet-stream", data)


def file_of(part: Mapping[str, Any], place: Place) -> tuple[Data, str | None]:
    """The data and the name of a file part; a file that is stored with OpenAI cannot be read.

    Raises:
        UnsupportedField: the part has no `file_data`.
    """
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, Mapping) else None
    if not isinstance(file, Mapping) or not isinstance(data, str):
        raise place.below("file").refused("only a file with file_data can be sent")
    inline = data_of(data, place.below("file").below("file_data"))
    if inline is None:
        raise place.below("file").below("file_data").refused("it must be a data: URL")
    return inline, file.get("filename")


def arguments_of(function: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The arguments of a call that a model has made earlier; none is an empty object.

    Raises:
        UnsupportedField: they are no JSON object, which only OpenAI's format can say.
    """
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise place.below("function").below("arguments").refused("they are no JSON object")
    return arguments


def media_type_of(url: str) -> str | None:
    """What the path of a URL says the file is, if it says anything."""
    return mimetypes.guess_type(urlsplit(url).path)[0]


def _items(content: object) -> Iterable[object]:
    return content if isinstance(content, list) else [content]

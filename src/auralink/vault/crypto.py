"""Envelope encryption (P-SECRET): secrets under a data key per user, data keys under the operator's master key.

Pure: bytes in, bytes out; the tables are in `vault/store.py`. AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce, which
is safe for 2³² seals under one key; a data key belongs to one user, so that bound is far away. The associated data says where
a ciphertext belongs; moved anywhere else it does not open.

    wrapped data key  = 01 | master key id (4) | nonce (12) | ciphertext (32) | tag (16)
    sealed secret     = 01 | data key version (4) | nonce (12) | ciphertext (n) | tag (16)
"""

import base64
import binascii
import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from auralink.core.errors import StartupError
from auralink.core.secret import Secret
from auralink.vault.errors import MasterKeyMissing, SealBroken

VARIABLE = "MCP_ENCRYPTION_KEY"
KEY_BYTES = 32

_FORMAT = b"\x01"
_HEADER = 5
_NONCE = 12
_TAG = 16
_HKDF_SALT = b"auralink/derive/1"


@dataclass(frozen=True, slots=True)
class SealContext:
    """Where a secret belongs. All of it is associated data."""

    user_id: UUID
    table: str
    row_id: UUID
    field: str
    key_version: int = 1


class DataKey:
    """A user's data key, in memory only. Never prints, never pickles."""

    __slots__ = ("_cipher", "_material", "version")

    def __init__(self, material: bytes, version: int = 1) -> None:
        self._material = material
        self._cipher = AESGCM(material)
        self.version = version

    def __repr__(self) -> str:
        return f"DataKey(***, version={self.version})"

    def __reduce__(self) -> str:
        raise TypeError("a DataKey cannot be pickled")

    @classmethod
    def generate(cls, version: int = 1) -> Self:
        """A new random data key."""
        return cls(os.urandom(KEY_BYTES), version)


class KeyRing:
    """The operator's master keys. The first wraps, every one unwraps; derived keys come from the first."""

    __slots__ = ("_first", "_first_id", "_keys")

    def __init__(self, keys: Iterable[bytes]) -> None:
        materials = list(keys)
        self._keys = {key_id(material): AESGCM(material) for material in materials}
        self._first = materials[0]
        self._first_id = key_id(self._first)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    def __reduce__(self) -> str:
        raise TypeError("a KeyRing cannot be pickled")

    @classmethod
    def parse(cls, value: Secret | None, *, variable: str = VARIABLE) -> Self:
        """Reads the setting: base64 of 32 bytes each, comma-separated, the current key first.

        Raises:
            StartupError: names the variable and which of the keys is wrong, never a key.
        """
        parts = [part.strip() for part in value.reveal().split(",")] if value else []
        if not parts:
            raise StartupError(f"{variable} is not set; make one with: openssl rand -base64 32")
        keys = [_parse_key(part, f"{variable}: key {number}") for number, part in enumerate(parts, 1)]
        if len({key_id(key) for key in keys}) < len(keys):
            raise StartupError(f"{variable}: a key is listed twice; list each once, the current one first")
        return cls(keys)

    @property
    def current_key_id(self) -> str:
        """Id of the master key that wraps (8 hex digits)."""
        return self._first_id

    def wrap(self, data_key: DataKey, user_id: UUID) -> bytes:
        """The data key under the first master key, bound to its user and version."""
        header = _FORMAT + bytes.fromhex(self._first_id)
        nonce = os.urandom(_NONCE)
        bound = _wrap_binding(header, user_id, data_key.version)
        return header + nonce + self._keys[self._first_id].encrypt(nonce, data_key._material, bound)

    def unwrap(self, wrapped: bytes, user_id: UUID, version: int = 1) -> DataKey:
        """Opens what `wrap` made, with whichever master key made it.

        Raises:
            MasterKeyMissing: that key is not in the ring; the message names its id.
            SealBroken: altered, or wrapped for another user or version.
        """
        wrapping = wrapping_key_id(wrapped)
        if wrapping not in self._keys:
            raise MasterKeyMissing(
                f"a data key is wrapped by master key {wrapping}, which {VARIABLE} does not list; add it behind the current one"
            )
        bound = _wrap_binding(wrapped[:_HEADER], user_id, version)
        return DataKey(_decrypt(self._keys[wrapping], wrapped, bound), version)

    def rewrap(self, wrapped: bytes, user_id: UUID, version: int = 1) -> bytes | None:
        """The same data key under the first master key, or None if it already is (so that rotation repeats as a no-op).

        Raises:
            MasterKeyMissing, SealBroken: as `unwrap`.
        """
        if wrapping_key_id(wrapped) == self._first_id:
            return None
        return self.wrap(self.unwrap(wrapped, user_id, version), user_id)

    def derive(self, purpose: str) -> bytes:
        """32 bytes for `purpose` alone (HKDF-SHA256, RFC 5869) from the first master key: run tokens, session ids, states."""
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=_HKDF_SALT, info=purpose.encode()).derive(self._first)


def seal(data_key: DataKey, plaintext: Secret, context: SealContext) -> bytes:
    """Encrypts a secret for exactly the place that `context` names.

    Raises:
        SealBroken: the context names another version than the data key has.
    """
    _require_version(data_key, context)
    header = _FORMAT + data_key.version.to_bytes(4, "big")
    nonce = os.urandom(_NONCE)
    text = plaintext.reveal().encode("utf-8", "surrogatepass")
    return header + nonce + data_key._cipher.encrypt(nonce, text, _seal_binding(header, context))


def open_sealed(data_key: DataKey, sealed: bytes, context: SealContext) -> Secret:
    """Opens what `seal` made for the same context.

    Raises:
        SealBroken: altered, moved, or sealed under another key.
    """
    _require_version(data_key, context)
    text = _decrypt(data_key._cipher, sealed, _seal_binding(sealed[:_HEADER], context))
    return Secret(text.decode("utf-8", "surrogatepass"))


def sealed_version(sealed: bytes) -> int:
    """The version of the data key that sealed this, as its header claims (opening proves it)."""
    return int.from_bytes(_header(sealed)[1:], "big")


def wrapping_key_id(wrapped: bytes) -> str:
    """The id of the master key that wrapped this data key, as its header claims (unwrapping proves it)."""
    return _header(wrapped)[1:].hex()


def key_id(material: bytes) -> str:
    """What a master key is called: the first 8 hex digits of its SHA-256."""
    return sha256(material).hexdigest()[:8]


def generate_master_key() -> Secret:
    """A new master key in the form of `MCP_ENCRYPTION_KEY`, for the embedded mode's first start."""
    return Secret(base64.b64encode(os.urandom(KEY_BYTES)).decode())


def _parse_key(part: str, name: str) -> bytes:
    try:
        material = base64.b64decode(part.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise StartupError(f"{name} is not base64; make one with: openssl rand -base64 32") from None
    if len(material) != KEY_BYTES:
        raise StartupError(f"{name} has {len(material)} bytes, not {KEY_BYTES}; make one with: openssl rand -base64 32")
    return material


def _require_version(data_key: DataKey, context: SealContext) -> None:
    if data_key.version != context.key_version:
        raise SealBroken(f"{context.table}.{context.field} needs data key version {context.key_version}, not {data_key.version}")


def _header(blob: bytes) -> bytes:
    if len(blob) < _HEADER + _NONCE + _TAG or not blob.startswith(_FORMAT):
        raise SealBroken("what is stored is not in the vault's format; restore it from a backup or enter the secret again")
    return blob[:_HEADER]


def _decrypt(cipher: AESGCM, blob: bytes, bound: bytes) -> bytes:
    _header(blob)
    nonce, ciphertext = blob[_HEADER : _HEADER + _NONCE], blob[_HEADER + _NONCE :]
    try:
        return cipher.decrypt(nonce, ciphertext, bound)
    except InvalidTag:
        raise SealBroken("a stored secret was altered or belongs elsewhere; enter it again") from None


def _wrap_binding(header: bytes, user_id: UUID, version: int) -> bytes:
    return _encode(b"auralink/data-key", header, user_id.bytes, str(version).encode())


def _seal_binding(header: bytes, context: SealContext) -> bytes:
    return _encode(
        b"auralink/secret",
        header,
        context.user_id.bytes,
        context.table.encode(),
        context.row_id.bytes,
        context.field.encode(),
        str(context.key_version).encode(),
    )


def _encode(*parts: bytes) -> bytes:
    """Joins parts behind their lengths, so that no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

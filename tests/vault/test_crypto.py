"""Envelope encryption: what is sealed opens in its own place, unaltered, and nowhere else."""

import base64
import logging
import os
import pickle
from dataclasses import fields, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralink.core.errors import StartupError
from auralink.core.secret import Secret
from auralink.vault.crypto import (
    DataKey,
    KeyRing,
    SealContext,
    generate_master_key,
    key_id,
    open_sealed,
    seal,
    sealed_version,
    wrapping_key_id,
)
from auralink.vault.errors import MasterKeyMissing, SealBroken, VaultError

pytestmark = pytest.mark.promise("P-SECRET")
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CANARY = Secret("canary-7f3a-sk-live")
CONTEXT = SealContext(uuid4(), "user_llm_keys", uuid4(), "api_key")
KEY = DataKey.generate()
OLD, NEW = os.urandom(32), os.urandom(32)


def ring(*keys: bytes) -> KeyRing:
    return KeyRing.parse(Secret(",".join(base64.b64encode(key).decode() for key in keys)))


@patient
@given(st.text(st.characters()))
def test_what_is_sealed_opens_again(text: str) -> None:
    assert open_sealed(KEY, seal(KEY, Secret(text), CONTEXT), CONTEXT).reveal() == text


@patient
@given(st.data())
def test_no_altered_byte_opens(data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, CANARY, CONTEXT))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VaultError):
        open_sealed(KEY, bytes(sealed), CONTEXT)


def test_every_bit_of_a_wrapped_key_and_of_a_sealed_secret_counts() -> None:
    keys, user = ring(NEW, OLD), uuid4()
    wrapped, sealed = keys.wrap(KEY, user), seal(KEY, CANARY, CONTEXT)
    for bit in range(len(wrapped) * 8):
        with pytest.raises(VaultError):
            keys.unwrap(flipped(wrapped, bit), user)
    for bit in range(len(sealed) * 8):
        with pytest.raises(VaultError):
            open_sealed(KEY, flipped(sealed, bit), CONTEXT)


def flipped(blob: bytes, bit: int) -> bytes:
    altered = bytearray(blob)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


@patient
@given(st.binary(max_size=80))
def test_no_made_up_or_cut_off_blob_opens(blob: bytes) -> None:
    sealed = seal(KEY, CANARY, CONTEXT)
    for candidate in (blob, sealed + blob[:1] + b"x", sealed[: len(blob) % len(sealed)]):
        with pytest.raises(SealBroken):
            open_sealed(KEY, candidate, CONTEXT)
        with pytest.raises(VaultError):
            ring(NEW).unwrap(candidate, CONTEXT.user_id)


OTHER: dict[str, Any] = {
    "user_id": uuid4(),
    "table": "user_mcp_connections",
    "row_id": uuid4(),
    "field": "base_url",
    "key_version": 2,
}


@pytest.mark.parametrize("part", [f.name for f in fields(SealContext)])
def test_a_secret_moved_to_another_place_does_not_open(part: str) -> None:
    with pytest.raises(SealBroken):
        open_sealed(KEY, seal(KEY, CANARY, CONTEXT), replace(CONTEXT, **{part: OTHER[part]}))


contexts = st.builds(
    SealContext,
    st.sampled_from([UUID(int=0), UUID(int=1)]),
    st.text("ab\0:", max_size=3),
    st.sampled_from([UUID(int=0), UUID(int=1)]),
    st.text("ab\0:", max_size=3),
    st.just(1),
)


@patient
@given(contexts, contexts)
def test_a_secret_opens_in_the_very_context_it_was_sealed_for(sealed_for: SealContext, opened_in: SealContext) -> None:
    sealed = seal(KEY, CANARY, sealed_for)
    if sealed_for == opened_in:
        assert open_sealed(KEY, sealed, opened_in) == CANARY
    else:
        with pytest.raises(SealBroken):
            open_sealed(KEY, sealed, opened_in)


def test_the_parts_of_a_context_do_not_flow_into_each_other() -> None:
    """Without their lengths, both contexts would be the same bytes: `a`, seventeen zeros, `b`."""
    row = UUID(int=0)
    sealed = seal(KEY, CANARY, replace(CONTEXT, table="a", row_id=row, field="\0b"))
    with pytest.raises(SealBroken):
        open_sealed(KEY, sealed, replace(CONTEXT, table="a\0", row_id=row, field="b"))


def test_another_users_data_key_opens_nothing() -> None:
    with pytest.raises(SealBroken):
        open_sealed(DataKey.generate(), seal(KEY, CANARY, CONTEXT), CONTEXT)


def test_the_version_of_the_data_key_is_readable_and_enforced() -> None:
    second = DataKey.generate(version=2)
    context = replace(CONTEXT, key_version=2)
    sealed = seal(second, CANARY, context)
    assert sealed_version(sealed) == 2
    assert open_sealed(second, sealed, context) == CANARY
    with pytest.raises(SealBroken, match="version"):
        seal(second, CANARY, CONTEXT)
    with pytest.raises(SealBroken, match="version"):
        open_sealed(second, sealed, CONTEXT)


def test_nonces_never_repeat() -> None:
    keys = ring(NEW)
    sealed = {seal(KEY, CANARY, CONTEXT)[5:17] for _ in range(20_000)}
    wrapped = {keys.wrap(KEY, CONTEXT.user_id)[5:17] for _ in range(5_000)}
    assert len(sealed | wrapped) == 25_000


def test_a_wrapped_key_is_bound_to_its_user_and_version() -> None:
    keys, user = ring(NEW), uuid4()
    wrapped = keys.wrap(KEY, user)
    sealed = seal(KEY, CANARY, CONTEXT)
    assert open_sealed(keys.unwrap(wrapped, user), sealed, CONTEXT) == CANARY
    with pytest.raises(SealBroken):
        keys.unwrap(wrapped, uuid4())
    with pytest.raises(SealBroken):
        keys.unwrap(wrapped, user, version=2)


def test_rotation_keeps_every_secret_readable_and_repeats_as_a_no_op() -> None:
    user = uuid4()
    sealed, wrapped = seal(KEY, CANARY, CONTEXT), ring(OLD).wrap(KEY, user)
    both = ring(NEW, OLD)
    assert open_sealed(both.unwrap(wrapped, user), sealed, CONTEXT) == CANARY
    rewrapped = both.rewrap(wrapped, user)
    assert rewrapped is not None
    assert wrapping_key_id(rewrapped) == both.current_key_id == key_id(NEW)
    assert both.rewrap(rewrapped, user) is None
    assert open_sealed(ring(NEW).unwrap(rewrapped, user), sealed, CONTEXT) == CANARY


def test_a_master_key_that_was_taken_away_too_early_is_named() -> None:
    wrapped = ring(OLD).wrap(KEY, CONTEXT.user_id)
    with pytest.raises(MasterKeyMissing, match=key_id(OLD)) as caught:
        ring(NEW).rewrap(wrapped, CONTEXT.user_id)
    assert "MCP_ENCRYPTION_KEY" in caught.value.message


def test_derived_keys_differ_by_purpose_and_by_master_key_and_stay_the_same() -> None:
    derived = {ring(key, OLD).derive(purpose) for key in (NEW, os.urandom(32)) for purpose in ("run-token", "session")}
    assert len(derived) == 4
    assert all(len(key) == 32 for key in derived)
    assert ring(NEW).derive("run-token") == ring(NEW, OLD).derive("run-token") != NEW


def test_a_derived_key_is_the_one_that_stored_tokens_were_signed_with() -> None:
    known = ring(bytes(range(32))).derive("run-token")
    assert known.hex() == "2ecd0663dd9cf7ae4195bbd60a6c4d0d8575f83f7127c2e776154e55ad4511f1"


def test_a_generated_master_key_parses() -> None:
    assert KeyRing.parse(generate_master_key()).current_key_id


@pytest.mark.parametrize("form", [base64.b64encode, base64.urlsafe_b64encode])
def test_both_base64_alphabets_and_spaces_around_commas_are_read(form: Any) -> None:
    key = b"\xfb\xff" * 3 + os.urandom(26)
    assert KeyRing.parse(Secret(f" {form(key).decode()} ,\n{form(OLD).decode()}\n")).current_key_id == key_id(key)


GOOD = base64.b64encode(NEW).decode()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "not set"),
        (Secret(""), "not set"),
        (Secret("changeme"), "6 bytes"),
        (Secret("not base64!"), "key 1 is not base64"),
        (Secret("ключ"), "key 1 is not base64"),
        (Secret(f"{GOOD},"), "key 2 has 0 bytes"),
        (Secret(f",{GOOD}"), "key 1 has 0 bytes"),
        (Secret(f"{GOOD},{GOOD}"), "twice"),
        (Secret(f"{GOOD},{base64.b64encode(OLD[:31]).decode()}"), "key 2 has 31 bytes"),
        (Secret(NEW.hex()), "48 bytes"),
        (Secret(GOOD.rstrip("=")), "not base64"),
    ],
    ids=str,
)
def test_a_bad_setting_stops_the_start_and_names_the_variable_not_the_key(value: Secret | None, says: str) -> None:
    with pytest.raises(StartupError, match=says) as caught:
        KeyRing.parse(value)
    assert "MCP_ENCRYPTION_KEY" in caught.value.message
    assert GOOD not in caught.value.message
    assert NEW.hex() not in caught.value.message


def shown(thing: object) -> str:
    logged: list[str] = []
    structlog.PrintLogger(Collector(logged)).msg(structlog.processors.JSONRenderer(default=repr)(None, "", {"it": thing}))
    return f"{thing!r} {thing!s} {thing} {[thing]} {logged}" + logging.Formatter().format(
        logging.LogRecord("n", 20, "p", 1, "%s %r", (thing, thing), None)
    )


class Collector:
    """A text stream that keeps what is written to it."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append

    def flush(self) -> None:
        """Nothing is held back."""


def test_no_secret_or_key_ever_prints_or_pickles() -> None:
    material = os.urandom(32)
    keys, data_key = ring(material), DataKey(material)
    for thing in (CANARY, keys, data_key):
        text = shown(thing)
        for leak in (CANARY.reveal(), str(material), material.hex(), base64.b64encode(material).decode()):
            assert leak not in text
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_neither_ciphertext_nor_error_contains_the_secret() -> None:
    sealed = seal(KEY, CANARY, CONTEXT)
    assert CANARY.reveal().encode() not in sealed
    with pytest.raises(SealBroken) as caught:
        open_sealed(KEY, sealed[:-1], CONTEXT)
    assert CANARY.reveal() not in f"{caught.value!r} {caught.value.extra} {caught.value.headers}"

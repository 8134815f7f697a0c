"""UUIDv7, bit by bit (RFC 9562 §5.7)."""

import time
from uuid import RFC_4122

from auralink.core.ids import uuid7


def test_an_id_says_its_version_and_variant() -> None:
    assert {(made.version, made.variant) for made in (uuid7() for _ in range(100))} == {(7, RFC_4122)}


def test_the_first_48_bits_are_the_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7().int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_of_later_milliseconds_sort_later() -> None:
    first = uuid7()
    while time.time_ns() // 1_000_000 <= first.int >> 80:
        pass
    assert first < uuid7()


def test_ids_do_not_repeat() -> None:
    assert len({uuid7() for _ in range(20_000)}) == 20_000

"""Mutations of bytes, and of JSON values."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

EDGES = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 24, 32, 64, 100, 127, 128, 255, 256, 257, 1000, 4096),
    *(9433, 32_767, 32_768, 65_535, 65_536, 2**24, 89_000_000, 2**30, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**32, 2**63 - 1, 2**64 - 1),
)
_ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        64,
        10**6,
        2**31,
        2**63,
        10**400,
        0.5,
        -0.5,
        1e-300,
        1e300,
    ),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "\ud800", "\0", "../x", "1", "é" * 300),
    *([], {}, [[]], {"": None}, [None], [1, 2], ["x", "y"]),
)
_HEAD = 256  # bytes at the start of a file, where most of its decisions are


def mutate_bytes(content: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Change a file in one to four places.

    Args:
        content: a valid file.
        others: further files, parts of which may be inserted.
        random: source of all choices.
    """
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        random.choice(_CHANGES)(changed, random)
        if others and random.random() < 0.05:
            other = random.choice(others)
            start = _place(bytearray(other), random)
            place = _place(changed, random)
            changed[place : place + random.choice((0, 16, len(changed)))] = other[start:]
    return bytes(changed)


def _place(content: bytearray, random: Random) -> int:
    """Choose a place: half of the time near the start, at times near the end."""
    size = len(content)
    chance = random.random()
    if chance < 0.5:
        return random.randrange(min(size, _HEAD) + 1)
    return (
        random.randrange(max(0, size - _HEAD), size + 1)
        if chance < 0.6
        else random.randrange(size + 1)
    )


def _flip(content: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 1, 2, 8))):
        place = _place(content, random)
        if place < len(content):
            content[place] ^= 1 << random.randrange(8)


def _set_byte(content: bytearray, random: Random) -> None:
    place = _place(content, random)
    content[place : place + 1] = bytes([random.randrange(256)])


def _set_number(content: bytearray, random: Random) -> None:
    size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    place = _place(content, random)
    number = random.choice(EDGES) % 256**size
    content[place : place + size] = number.to_bytes(size, order)


def _set_digits(content: bytearray, random: Random) -> None:
    """Replace a number that is written in digits."""
    found = list(re.finditer(rb"\d+", bytes(content[: 16 * _HEAD])))
    if found:
        match = random.choice(found)
        content[match.start() : match.end()] = str(random.choice(EDGES)).encode()


def _truncate(content: bytearray, random: Random) -> None:
    del content[_place(content, random) :]


def _insert(content: bytearray, random: Random) -> None:
    place = _place(content, random)
    content[place:place] = random.randbytes(random.choice((1, 2, 4, 16, 100)))


def _delete(content: bytearray, random: Random) -> None:
    place = _place(content, random)
    del content[place : place + random.choice((1, 2, 4, 16, 100))]


def _repeat(content: bytearray, random: Random) -> None:
    place, size = _place(content, random), random.choice((1, 4, 12, 64, 500))
    content[place:place] = content[place : place + size] * random.choice((1, 1, 2, 50))


def _blank(content: bytearray, random: Random) -> None:
    place, size = _place(content, random), random.choice((4, 16, 100))
    size = len(content[place : place + size])
    content[place : place + size] = random.choice((b"\0", b"\xff")) * size


_CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    *(_flip, _flip, _set_byte, _set_number, _set_number, _set_number, _set_digits),
    *(_truncate, _insert, _delete, _repeat, _blank),
)


def mutate_value(value: Any, random: Random) -> Any:
    """Change, drop, repeat or add one part of a JSON value, at a random depth."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        return _mutate_entry(value, key, random)
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        inner = [mutate_value(value[place], random)]
        return (
            value[:place] + random.choice((inner, inner, inner, [], inner * 3)) + value[place + 1 :]
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and random.random() < 0.4:
        near = (-value, value + 1, value - 1, value * 1000)
        return random.choice((*near, float(value % 10**6), str(value)))
    return random.choice(_ODD_VALUES)


def _mutate_entry(value: dict[str, Any], key: str, random: Random) -> dict[str, Any]:
    chance = random.random()
    if chance < 0.1:
        return {name: own for name, own in value.items() if name != key}
    if chance < 0.15:
        return value | {random.choice(("x", "", key.upper(), "../x")): value[key]}
    if chance < 0.2:
        return value | {key: value[random.choice(list(value))]}
    return value | {key: mutate_value(value[key], random)}

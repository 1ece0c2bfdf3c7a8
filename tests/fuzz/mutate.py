"""Inputs by chance: JSON values and bytes that are nearly right, which gets further into a parser than noise does."""

import json
import random
from typing import Any

# What has broken parsers before: ends of ranges, other types, other encodings, names with a meaning elsewhere.
TEXTS = (
    "", " ", "0", "-1", "null", "true", "nan", "inf", "1e309", "\x00", "\n", "\r\n", "../..", "..%2f", "%00", "%", "{}",
    "[]", "a" * 300, "A" * 5000, "é", "\ud7ff", "\U0001f600", "'", '"', "\\", "<script>", "{port}", "${HOME}", "a/b",
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-01", "default", "host-1", "spawn",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2**31, -(2**31), 2**53 + 1, 2**63, 2**64, 10**40, 0.0, -0.0, 0.1, 1e-320, 1e12, 1e300, -1e300,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
BYTES = (b"", b"\x00", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"[null]", b"{", b"}", b"<html>", b"1" * 400, b"\r\n\r\n")


class Mutator:
    """One stream of chance: the same seed gives the same inputs."""

    def __init__(self, seed: int | str) -> None:
        self.chance = random.Random(seed)

    def value(self, depth: int = 2) -> Any:
        """Any JSON value."""
        kind = self.chance.randrange(8 if depth else 5)
        if kind < 2:
            return self.chance.choice(TEXTS)
        if kind < 4:
            return self.chance.choice(NUMBERS)
        if kind == 4:
            return self.chance.choice((None, True, False))
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.chance.randrange(4))]
        if kind == 6:
            return {self.chance.choice(TEXTS): self.value(depth - 1) for _ in range(self.chance.randrange(4))}
        return self._nested(self.chance.choice((3, 30, 600)))

    def _nested(self, depth: int) -> Any:
        value: Any = self.chance.choice(NUMBERS)
        for _ in range(depth):
            value = [value] if self.chance.random() < 0.5 else {"a": value}
        return value

    def changed(self, value: Any) -> Any:
        """``value`` with one thing in it that is different: a field gone, new, or of another value."""
        if isinstance(value, dict) and value and self.chance.random() < 0.9:
            value, name = dict(value), self.chance.choice(list(value))
            step = self.chance.randrange(8)
            if step == 0:
                del value[name]
            elif step == 1:
                value[self.chance.choice(TEXTS) or "x"] = self.value()
            else:
                value[name] = self.changed(value[name]) if self.chance.random() < 0.5 else self.value()
            return value
        if isinstance(value, list) and value and self.chance.random() < 0.9:
            value, index = list(value), self.chance.randrange(len(value))
            step = self.chance.randrange(4)
            if step == 0:
                del value[index]
            elif step == 1:
                value += [value[index]] * self.chance.choice((1, 50))
            else:
                value[index] = self.changed(value[index])
            return value
        if isinstance(value, str) and value and self.chance.random() < 0.5:
            cut = self.chance.randrange(len(value))
            return value[:cut] + self.chance.choice(TEXTS) + value[cut + self.chance.randrange(2) :]
        return self.value()

    def json(self, value: Any) -> bytes:
        """``value`` as bytes, usually changed in one to three places, sometimes broken as JSON too."""
        for _ in range(self.chance.choice((0, 1, 1, 1, 2, 3))):
            value = self.changed(value)
        text = json.dumps(value, ensure_ascii=self.chance.random() < 0.5).encode("utf-8", "surrogatepass")
        return self.bytes(text) if self.chance.random() < 0.25 else text

    def bytes(self, data: bytes) -> bytes:
        """``data`` with pieces lost, doubled, replaced or put in."""
        for _ in range(self.chance.randrange(1, 4)):
            start = self.chance.randrange(len(data) + 1)
            end = min(len(data), start + self.chance.choice((0, 1, 1, 4, 40)))
            piece = self.chance.choice(
                (
                    b"",
                    self.chance.choice(BYTES),
                    self.chance.randbytes(self.chance.randrange(1, 9)),
                    data[start:end] * 2,
                )
            )
            data = data[:start] + piece + data[end:]
        return data[: self.chance.randrange(len(data) + 1)] if self.chance.random() < 0.1 else data

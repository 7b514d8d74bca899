"""Safe reader of the pickles of verification sets: lists, tuples, bytes, numbers, and arrays of numbers.

A pickle is a program for a stack machine, and Python's own machine runs whatever code it names. This reader knows only the
instructions that such sets consist of, as Python 2 and 3 and NumPy write them, and stops at any other. It never looks up a
name, and it makes no more bytes than the file holds and no more objects than images need.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.errors import DataError

# A pickle may have this many instructions, and one more for each BYTES_PER_INSTRUCTION bytes.
FEW_INSTRUCTIONS = 1 << 18
BYTES_PER_INSTRUCTION = 16


class Loaded(NamedTuple):
    """Content of a pickle, and the number of bytes it takes; more may follow."""

    value: Any  # lists, tuples, bytes, str, int, float, bool, None and `ByteArray`; strings of Python 2 as bytes
    end: int


class ByteArray:
    """An array of numbers in one row or column: the 1-D NumPy array `values`, and the bytes `raw` that it consists of."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None
        self.raw: bytes | None = None

    def fill(self, dtype: Any, raw: Any, shape: Any) -> ByteArray:
        """Set type, bytes and shape; DataError if they do not describe a row or column of numbers."""
        sound = isinstance(dtype, _Dtype) and isinstance(raw, bytes) and isinstance(shape, tuple)
        if sound:
            count, rest = divmod(len(raw), dtype.kind.itemsize)
            # The imencode of older versions of OpenCV returns a column.
            sound = not rest and shape in ((count,), (count, 1), (1, count))
        if not sound:
            raise DataError("its pickle holds an array that is not one row or column of numbers")
        self.values, self.raw = np.frombuffer(raw, dtype.kind), raw
        return self


class _Dtype:
    """A dtype of numbers."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str):
            raise TypeError
        if code.lstrip("<>|=") not in _NUMBERS or len(code) > 3:
            raise DataError(f"its pickle holds an array of {code[:20]!r}, expected numbers, such as bytes (u1)")
        self.kind = np.dtype(code)

    def order(self, order: Any) -> None:
        """Set the byte order, str or bytes: <, >, | or =."""
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise TypeError
        if self.kind.itemsize > 1:
            self.kind = self.kind.newbyteorder(order)


_NUMBERS = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")


class _Name:
    """A name that a pickle asks for; it is compared, never looked up."""

    def __init__(self, module: Any, name: Any) -> None:
        # Only str and bytes are accepted: converting nested lists to text takes unbounded time and memory.
        text = [part.decode("latin1") if isinstance(part, bytes) else part for part in (module, name)]
        self.full = ".".join(text)
        self.short = self.full.replace("numpy._core.", "numpy.core.")
        if self.short not in _CALLS and self.short != "numpy.ndarray":
            raise DataError(f"its pickle asks for {self.full[:80]}, which no verification set needs; nothing was run")


def load(content: bytes) -> Loaded:
    """Load a pickle of any protocol.

    Raises
    ------
    DataError
        If it is damaged, or holds or does anything else.
    """
    try:
        machine = _Machine(content)
        return Loaded(machine.run(), machine.at)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"is not a verification set: its pickle is damaged ({type(error).__name__})") from None


class _Machine:
    """Stack machine for the instructions that verification sets consist of."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.budget = len(content)  # bytes that encoding may still make
        self.instructions = FEW_INSTRUCTIONS + len(content) // BYTES_PER_INSTRUCTION  # that may still follow

    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise DataError(
                    f"is not a verification set: its pickle has the instruction {code!r}, which no such set needs"
                )
            self.instructions -= 1
            if self.instructions < 0:
                raise DataError("is not a verification set: its pickle has more objects than images need")
            instruction(self)

    def take(self, count: int) -> bytes:
        part = self.content[self.at : self.at + count]
        if len(part) < count:
            raise DataError("is not a verification set: it is cut, or not a pickle")
        self.at += count
        return part

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end = self.content.index(b"\n", self.at)
        return self.take(end + 1 - self.at)[:-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        values = self.stack[len(self.stack) - count :]
        if len(values) < count:
            raise IndexError
        del self.stack[len(self.stack) - count :]
        return values

    def since_mark(self) -> list[Any]:
        return self.pop(len(self.stack) - self.marks.pop())

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(values)

    def whole_number(self, text: bytes) -> None:
        if len(text) > 20:
            raise ValueError
        self.push(text == b"01" if text in (b"00", b"01") else int(text.rstrip(b"L")))

    def reduce(self) -> None:
        name, arguments = self.pop(2)
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise TypeError
        self.push(_CALLS[name.short](self, *arguments))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ByteArray):
            _, shape, dtype, _, raw = state
            target.fill(dtype, self.as_bytes(raw), shape)
        elif isinstance(target, _Dtype) and isinstance(state, tuple):
            target.order(state[1])
        else:
            raise TypeError

    def as_bytes(self, raw: Any) -> Any:
        """Convert the text in which Python 2's pickles, read by Python 3, hold bytes."""
        return self.encode(raw) if isinstance(raw, str) else raw

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        if encoding not in ("latin1", b"latin1", "latin-1", b"latin-1") or not isinstance(text, str):
            raise DataError("its pickle encodes text other than bytes")
        self.budget -= len(text)
        if self.budget < 0:
            raise DataError("is not a verification set: its pickle makes more bytes than it holds")
        return text.encode("latin1")


def _from_buffer(_: _Machine, raw: Any, dtype: Any, shape: Any, *order: Any) -> ByteArray:
    return ByteArray().fill(dtype, raw, shape)


def _scalar(machine: _Machine, dtype: Any, raw: Any) -> Any:
    raw = machine.as_bytes(raw)
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.kind.itemsize:
        raise TypeError
    return np.frombuffer(raw, dtype.kind).tolist()[0]


def _empty_bytes(_: _Machine) -> bytes:
    return b""


def _byte_array(machine: _Machine, raw: Any = b"", encoding: Any = "latin-1") -> bytes:
    """Return the bytes of a bytearray, which protocols before the fifth create by a call."""
    raw = machine.encode(raw, encoding) if isinstance(raw, str) else raw
    if not isinstance(raw, bytes):
        raise TypeError
    return raw


# Replacements for the names in such pickles: functions of the machine and of the arguments.
_CALLS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _Machine.encode,
    "__builtin__.bytes": _empty_bytes,
    "builtins.bytes": _empty_bytes,
    "__builtin__.bytearray": _byte_array,
    "builtins.bytearray": _byte_array,
    "numpy.dtype": lambda _, *arguments: _Dtype(*arguments),
    "numpy.core.multiarray._reconstruct": lambda _, *arguments: ByteArray(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
}


def _string(machine: _Machine) -> None:
    """Push a Python 2 string literal; only its escapes are decoded, it is not evaluated."""
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError
    machine.push(codecs.escape_decode(line[1:-1])[0])


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    # protocol and frames
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),
    # constants
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"F": lambda m: m.push(float(m.line()[:40])),
    b"G": lambda m: m.push(m.number(">d")),
    b"I": lambda m: m.whole_number(m.line()),
    b"L": lambda m: m.whole_number(m.line()),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    # bytes and text; a string of Python 2 is bytes
    b"S": _string,
    b"T": lambda m: m.push(m.take(m.number("<I"))),
    b"U": lambda m: m.push(m.take(m.number("<B"))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: m.push(m.take(m.number("<I")).decode("utf-8")),
    b"\x8c": lambda m: m.push(m.take(m.number("<B")).decode("utf-8")),
    b"\x8d": lambda m: m.push(m.take(m.number("<Q")).decode("utf-8")),
    # lists and tuples
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.since_mark()),
    b"a": lambda m: m.append(m.pop(1)),
    b"e": lambda m: m.append(m.since_mark()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.push(tuple(m.pop(1))),
    b"\x86": lambda m: m.push(tuple(m.pop(2))),
    b"\x87": lambda m: m.push(tuple(m.pop(3))),
    # memory
    b"p": lambda m: m.memo.__setitem__(int(m.line()[:20]), m.stack[-1]),
    b"q": lambda m: m.memo.__setitem__(m.number("<B"), m.stack[-1]),
    b"r": lambda m: m.memo.__setitem__(m.number("<I"), m.stack[-1]),
    b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    b"g": lambda m: m.push(m.memo[int(m.line()[:20])]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    # names and calls
    b"c": lambda m: m.push(_Name(m.line(), m.line())),
    b"\x93": lambda m: m.push(_Name(*m.pop(2))),
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}

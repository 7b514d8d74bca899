"""Reads the pickles of verification sets by itself: lists, tuples, bytes, numbers, and arrays of numbers.

A pickle is a program for a stack machine, and Python's own machine runs whatever code it names. This one knows the
instructions that such sets are made of, as Python 2 and 3 and NumPy wrote them, and stops at any other. Nothing that a
pickle names is ever looked up; no more bytes are made than the file holds, and no more objects than images need.
"""

import codecs
import struct

import numpy as np

from vargfacenet.errors import DataError

FEW_INSTRUCTIONS = 1 << 18  # that any pickle may have; larger ones have fewer than one in BYTES_PER_INSTRUCTION bytes
BYTES_PER_INSTRUCTION = 16


class ByteArray:
    """An array of numbers in one row or column, as found in a pickle.

    ``values`` is the 1-D NumPy array, and ``raw`` the bytes (bytes) that it is made of.
    """

    def __init__(self):
        self.values = self.raw = None

    def fill(self, dtype, raw, shape):
        """Gives the array its type, bytes (bytes) and shape."""
        sound = isinstance(dtype, _Dtype) and isinstance(raw, bytes) and isinstance(shape, tuple)
        if sound:
            count, rest = divmod(len(raw), dtype.kind.itemsize)
            # Older versions of OpenCV's imencode give a column.
            sound = not rest and shape in ((count,), (count, 1), (1, count))
        if not sound:
            raise DataError("its pickle holds an array that is not one row or column of numbers")
        self.values, self.raw = np.frombuffer(raw, dtype.kind), raw
        return self


class _Dtype:
    """A dtype of numbers."""

    def __init__(self, code, *_):
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str):
            raise TypeError
        if code.lstrip("<>|=") not in _NUMBERS or len(code) > 3:
            raise DataError(f"its pickle holds an array of {code[:20]!r}, expected numbers, such as bytes (u1)")
        self.kind = np.dtype(code)

    def order(self, order):
        """Takes the order of bytes (str or bytes: <, >, | or =)."""
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise TypeError
        if self.kind.itemsize > 1:
            self.kind = self.kind.newbyteorder(order)


_NUMBERS = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")


class _Name:
    """A name that a pickle asks for; it is compared and never looked up."""

    def __init__(self, module, name):
        # Text alone: to make text of nested lists takes time and memory without end.
        text = [part.decode("latin1") if isinstance(part, bytes) else part for part in (module, name)]
        self.full = ".".join(text)
        self.short = self.full.replace("numpy._core.", "numpy.core.")
        if self.short not in _CALLS and self.short != "numpy.ndarray":
            raise DataError(f"its pickle asks for {self.full[:80]}, which no verification set needs; nothing was run")


def load(content):
    """What a pickle holds.

    Parameters
    ----------
    content : bytes
        The pickle, of any protocol.

    Returns
    -------
    value : object
        Lists, tuples, bytes, str, int, float, bool, None and `ByteArray`; Python 2's strings as bytes.
    end : int
        Bytes that the pickle takes; more may follow.

    Raises
    ------
    DataError
        Where it is damaged, or holds or does anything else.
    """
    try:
        machine = _Machine(content)
        return machine.run(), machine.at
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"is no verification set: its pickle is damaged ({type(error).__name__})") from None


class _Machine:
    def __init__(self, content):
        self.content, self.at = content, 0
        self.stack, self.marks, self.memo = [], [], {}
        self.budget = len(content)  # bytes that may still be made by encoding
        self.instructions = FEW_INSTRUCTIONS + len(content) // BYTES_PER_INSTRUCTION  # that may still come

    def run(self):
        while True:
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise DataError(f"is no verification set: its pickle has the instruction {code!r}, which none needs")
            self.instructions -= 1
            if self.instructions < 0:
                raise DataError("is no verification set: its pickle is of more pieces than images are")
            instruction(self)

    def take(self, count):
        part = self.content[self.at : self.at + count]
        if len(part) < count:
            raise DataError("is no verification set: it is cut, or no pickle")
        self.at += count
        return part

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self):
        end = self.content.index(b"\n", self.at)
        return self.take(end + 1 - self.at)[:-1]

    def push(self, value):
        self.stack.append(value)

    def pop(self, count):
        values = self.stack[len(self.stack) - count :]
        if len(values) < count:
            raise IndexError
        del self.stack[len(self.stack) - count :]
        return values

    def since_mark(self):
        return self.pop(len(self.stack) - self.marks.pop())

    def append(self, values):
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(values)

    def whole_number(self, text):
        if len(text) > 20:
            raise ValueError
        self.push(text == b"01" if text in (b"00", b"01") else int(text.rstrip(b"L")))

    def reduce(self):
        name, arguments = self.pop(2)
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise TypeError
        self.push(_CALLS[name.short](self, *arguments))

    def build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ByteArray):
            _, shape, dtype, _, raw = state
            target.fill(dtype, self.as_bytes(raw), shape)
        elif isinstance(target, _Dtype) and isinstance(state, tuple):
            target.order(state[1])
        else:
            raise TypeError

    def as_bytes(self, raw):
        """The bytes that Python 2's pickles, read by Python 3, hold as text."""
        return self.encode(raw) if isinstance(raw, str) else raw

    def encode(self, text, encoding="latin1"):
        if encoding not in ("latin1", b"latin1", "latin-1", b"latin-1") or not isinstance(text, str):
            raise DataError("its pickle encodes text other than bytes")
        self.budget -= len(text)
        if self.budget < 0:
            raise DataError("is no verification set: its pickle makes more bytes than it holds")
        return text.encode("latin1")


def _from_buffer(_, raw, dtype, shape, *order):
    return ByteArray().fill(dtype, raw, shape)


def _scalar(machine, dtype, raw):
    raw = machine.as_bytes(raw)
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.kind.itemsize:
        raise TypeError
    return np.frombuffer(raw, dtype.kind).tolist()[0]


def _empty_bytes(_):
    return b""


def _byte_array(machine, raw=b"", encoding="latin-1"):
    """The bytes of a bytearray, which other protocols than the fifth call into being."""
    raw = machine.encode(raw, encoding) if isinstance(raw, str) else raw
    if not isinstance(raw, bytes):
        raise TypeError
    return raw


# What the names in such pickles stand for, as functions of the machine and of their arguments.
_CALLS = {
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


def _string(machine):
    """A string of Python 2 as it stands in source code, without being read as such."""
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError
    machine.push(codecs.escape_decode(line[1:-1])[0])


_INSTRUCTIONS = {
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
    # bytes and text; what Python 2 calls a string is bytes
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
    # names and what is made of them
    b"c": lambda m: m.push(_Name(m.line(), m.line())),
    b"\x93": lambda m: m.push(_Name(*m.pop(2))),
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}

"""Pickles that try to run code or exhaust the machine."""

import struct

MANY = 200_000
TEXT = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)  # a megabyte, as text


def short(text):
    return b"\x8c" + bytes([len(text)]) + text


def doubling(levels):
    """Return a list that holds another list twice, and so on: 2^levels items when all are visited."""
    return b"]" + b"".join(b"q\x00]h\x00ah\x00a" for _ in range(levels))


LAUGHS = doubling(60)
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n)R"
SCALAR = b"cnumpy.core.multiarray\nscalar\n"
FROM_BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"
DTYPE = b"cnumpy\ndtype\nU\x02u1\x85R"
TRILLION = b"\x8a\x06" + (10**12).to_bytes(6, "little")

HOSTILE = {
    "os.system": b"cos\nsystem\nU\x04true\x85R.",
    "os.system, protocol 4": b"\x80\x04" + short(b"os") + short(b"system") + b"\x93" + short(b"true") + b"\x85R.",
    "os.system by way of another module": b"\x80\x04" + short(b"numpy") + short(b"os.system") + b"\x93.",
    "posix.system by INST": b"(S'true'\niposix\nsystem\n.",
    "open": b"c__builtin__\nopen\nU\x09/tmp/mark\x85R.",
    "import": b"c__builtin__\n__import__\nU\x02os\x85R.",
    "importlib": b"cimportlib\nimport_module\nU\x02os\x85R.",
    "eval": b"cbuiltins\neval\nU\x011\x85R.",
    "an extension's code": b"\x82\x01.",
    "a persistent id": b"Pid\n.",
    "a new object": b"\x80\x02cos\nsystem\n)\x81.",
    "lists nested 10,000 deep": b"]" * 10_000 + b"a" * 9_999 + b".",
    "tuples nested 10,000 deep": b")" + b"\x85" * 10_000 + b".",
    "marks nested 10,000 deep": b"(" * 10_000 + b"t" * 9_999 + b".",
    "10,000 deep as a truth": b"](" + b"]" * 10_000 + b"a" * 9_999 + b"l\x86.",
    "10^12 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"x.",
    "10^12 characters": b"\x80\x04\x8d" + struct.pack("<Q", 10**12) + b"x.",
    "a frame of 10^12 bytes": b"\x80\x04\x95" + struct.pack("<Q", 10**12) + b"N.",
    "bytes(10^12)": b"c__builtin__\nbytes\n" + TRILLION + b"\x85R.",
    "an array of 10^12 bytes": FROM_BUFFER + b"(" + TRILLION + DTYPE + TRILLION + b"\x85U\x01CtR.",
    "an array whose shape says 10^12": FROM_BUFFER + b"(C\x01x" + DTYPE + TRILLION + b"\x85U\x01CtR.",
    "bytearray(10^12)": b"cbuiltins\nbytearray\n" + TRILLION + b"\x85R.",
    "a number of a type of 10^12 bytes": SCALAR + b"cnumpy\ndtype\nU\x0eV1000000000000\x85RU\x01x\x86R.",
    "an order of bytes that is a billion laughs": DTYPE
    + b"(K\x03"
    + LAUGHS
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb.",
    "digits without end as a float": b"F" + b"9" * (1 << 20) + b"\n.",
    "a long of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "digits without end": b"L" + b"9" * (1 << 20) + b"L\n.",
    "a billion laughs": LAUGHS + b".",
    "a billion laughs as a dtype": b"cnumpy\ndtype\n" + LAUGHS + b"\x85R.",
    "a billion laughs as a name": b"\x80\x04" + LAUGHS + short(b"x") + b"\x93.",
    "a billion laughs as a shape": FROM_BUFFER + b"(C\x01x" + DTYPE + LAUGHS + b"\x85U\x01CtR.",
    "a billion laughs as both lists": LAUGHS + b"q\x01h\x01\x86.",
    "a list in itself": b"]q\x00" + b"h\x00a" * 100 + b"h\x00\x86.",
    "a megabyte of text made bytes again and again": TEXT
    + b"q\x00]q\x01"
    + RECONSTRUCT
    + b"(K\x01J\0\0\x10\0\x85"
    + DTYPE
    + b"\x89h\x00tb"
    + (b"h\x01" + RECONSTRUCT + b"(K\x01J\0\0\x10\0\x85" + DTYPE + b"\x89h\x00tba") * 200
    + b".",
    "a megabyte of text as a number again and again": TEXT + b"q\x00" + (SCALAR + DTYPE + b"h\x00\x86R") * 2000 + b".",
    "lists without end": b"]" * 1_000_000 + b".",
    "memos without end": b"N" + b"".join(b"r" + struct.pack("<I", n) for n in range(300_000)) + b".",
    "names of lists": b"\x80\x04]]\x93.",
    "parentheses in a string": b"S" + b"(" * MANY + b"\n.",
    "a string that is an expression": b"S'a'*9999999999\n.",
    "an array without content": RECONSTRUCT + RECONSTRUCT + b"\x86.",
}

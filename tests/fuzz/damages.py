"""Accidental and malicious damage to files, determined by a random generator alone."""

import struct

# Numbers that readers are likely to handle wrongly: the limits of 8, 16, 32 and 64 bits.
_EDGES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]


def damage(content, random):
    """Return the kind of damage, and a damaged copy of `content`, a whole file that is not empty.

    `random`, a NumPy generator, determines everything; by chance the copy may equal the original.
    """
    kind = _KINDS[random.integers(len(_KINDS))]
    return kind.__name__, bytes(kind(bytearray(content), random))


def _place(content, random):
    return int(random.integers(len(content)))


def one_bit_flipped(content, random):
    content[_place(content, random)] ^= 1 << int(random.integers(8))
    return content


def some_bits_flipped(content, random):
    for _ in range(int(random.integers(2, 17))):
        one_bit_flipped(content, random)
    return content


def a_byte_set(content, random):
    content[_place(content, random)] = int(random.integers(256))
    return content


def a_block_overwritten(content, random):
    begin, length = _place(content, random), int(random.integers(1, 513))
    content[begin : begin + length] = random.bytes(len(content[begin : begin + length]))
    return content


def a_block_zeroed(content, random):
    begin, length = _place(content, random), int(random.integers(1, 4097))
    content[begin : begin + length] = bytes(len(content[begin : begin + length]))
    return content


def a_number_at_an_edge(content, random):
    begin, form = _place(content, random), ("<B", "<H", "<I", "<Q", ">H", ">I")[random.integers(6)]
    size = struct.calcsize(form)
    content[begin : begin + size] = struct.pack(form, _EDGES[random.integers(len(_EDGES))] % (1 << 8 * size))
    return content


def cut(content, random):
    return content[: _place(content, random)]


def a_block_lost(content, random):
    begin = _place(content, random)
    del content[begin : begin + int(random.integers(1, 257))]
    return content


def a_block_doubled(content, random):
    begin = _place(content, random)
    part = content[begin : begin + int(random.integers(1, 257))]
    return content[:begin] + part * int(random.integers(2, 5)) + content[begin + len(part) :]


def bytes_put_in(content, random):
    begin = _place(content, random)
    return content[:begin] + random.bytes(int(random.integers(1, 65))) + content[begin:]


def blocks_exchanged(content, random):
    length = int(random.integers(1, 65))
    one, other = sorted((_place(content, random), _place(content, random)))
    if one + length <= other and other + length <= len(content):
        content[one : one + length], content[other : other + length] = (
            content[other : other + length],
            content[one : one + length],
        )
    return content


_KINDS = (
    one_bit_flipped,
    some_bits_flipped,
    a_byte_set,
    a_block_overwritten,
    a_block_zeroed,
    a_number_at_an_edge,
    cut,
    a_block_lost,
    a_block_doubled,
    bytes_put_in,
    blocks_exchanged,
)

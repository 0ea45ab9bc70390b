"""BLAKE3, hash and derive-key modes, from the specification's reference implementation. Slow."""

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = 32, 64
MASK = 0xFFFFFFFF


def compress(value, block, counter, length, flags):
    v = list(value) + list(IV[:4]) + [counter & MASK, counter >> 32, length, flags]
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(MIXES):
            v[a] = (v[a] + v[b] + m[2 * i]) & MASK
            v[d] = rotate(v[d] ^ v[a], 16)
            v[c] = (v[c] + v[d]) & MASK
            v[b] = rotate(v[b] ^ v[c], 12)
            v[a] = (v[a] + v[b] + m[2 * i + 1]) & MASK
            v[d] = rotate(v[d] ^ v[a], 8)
            v[c] = (v[c] + v[d]) & MASK
            v[b] = rotate(v[b] ^ v[c], 7)
        m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def rotate(word, bits):
    return (word >> bits | word << (32 - bits)) & MASK


def chunk(key, data, counter, flags):
    """The arguments of the last compression of a chunk."""
    value = key
    blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks[:-1]):
        value = compress(value, block, counter, 64, flags | (CHUNK_START if i == 0 else 0))
    last = flags | CHUNK_END | (CHUNK_START if len(blocks) == 1 else 0)
    return value, blocks[-1], counter, len(blocks[-1]), last


def tree(key, data, counter, flags):
    """The arguments of the last compression of a subtree."""
    if len(data) <= 1024:
        return chunk(key, data, counter, flags)
    left = 1024
    while 2 * left < len(data):
        left *= 2
    children = (tree(key, data[:left], counter, flags),
                tree(key, data[left:], counter + left // 1024, flags))
    block = b"".join(struct.pack("<8I", *compress(*child)) for child in children)
    return key, block, 0, 64, flags | PARENT


def digest(key, data, flags):
    value, block, counter, length, flags = tree(key, data, 0, flags)
    return struct.pack("<8I", *compress(value, block, counter, length, flags | ROOT))


def hash(data):
    return digest(IV, data, 0)


def derive_key(context, data):
    key = digest(IV, context.encode(), DERIVE_KEY_CONTEXT)
    return digest(struct.unpack("<8I", key), data, DERIVE_KEY_MATERIAL)

#!/usr/bin/env python3
"""An independent reader of snapshots, written from docs/format.md alone.

usage: read.py SNAPSHOT.car IDENTITY OUT_DIR            restores all streams
       read.py --check capsule|manifest|list|node FILE  parses one part in clear
       read.py --check object FILE LENGTH IDENTITY      opens one object
       read.py --check car FILE IDENTITY                reads all of a snapshot, keeps nothing

Needs Python 3.9 and the programs age and zstd. It holds everything in memory, and is slow: it is
the proof that the page suffices, not a tool. Exit codes: 0 done, 3 refused (one line says why).
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

import blake3

MIB = 1 << 20
PIECE_MAX = 983_040
DIRECTORY_MAX = 262_144
MANIFEST_PLAIN_MAX = 64 * MIB
FILES = {"RECOVER.md": 64 << 10, "capsule.age": 4 * MIB, "manifest.age": 80 * MIB, "recover.sh": 64 << 10}


class Refused(Exception):
    pass


def need(condition, why):
    if not condition:
        raise Refused(why)


# CIDs, varints


def cid_text(cid):
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def cid_bytes(text, codec=None):
    need(re.fullmatch("b[a-z2-7]{58}", text), f"not a CID: {text}")
    cid = base64.b32decode(text[1:].upper() + "======")
    need(cid_text(cid) == text, "a CID that is not canonical")
    return check_cid(cid, codec)


def check_cid(cid, codec=None):
    need(len(cid) == 36 and cid[0] == 1 and cid[1] in (0x55, 0x70) and cid[2:4] == b"\x12\x20", "a foreign CID")
    need(codec is None or cid[1] == codec, "another codec")
    return cid


def varint(data, at):
    number = shift = 0
    while True:
        need(at < len(data) and shift < 64, "a varint that does not end")
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            need(byte > 0 or shift == 7, "a varint that is too long")
            need(number < 1 << 64, "a number of more than 64 bits")
            return number, at


# CAR files


def read_car(path):
    """The root, and the blocks by CID; none is checked yet."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:11] == bytes.fromhex("0aa16776657273696f6e02"):
        start, size = (int.from_bytes(data[i:i + 8], "little") for i in (27, 35))
        data = data[start:start + size]
    length, at = varint(data, 0)
    header, at = data[at:at + length], at + length
    # DAG-CBOR of {"roots": [CID], "version": 1} or {"roots": [], "version": 1}.
    start, end = bytes.fromhex("a265726f6f7473"), b"\x67version\x01"
    need(header.startswith(start) and header.endswith(end), "not the header of a CAR")
    roots = header[len(start):-len(end)]
    one = bytes.fromhex("81d82a582500")
    need(roots == b"\x80" or roots.startswith(one), "not one root, or none")
    root = check_cid(roots[len(one):], 0x70) if roots != b"\x80" else None
    blocks = {}
    while at < len(data):
        length, at = varint(data, at)
        section, at = data[at:at + length], at + length
        need(len(section) == length and length >= 36, "a CAR that is cut off")
        blocks[section[:36]] = section[36:]
    nodes = [cid for cid in blocks if cid[1] == 0x70]
    need(root or nodes, "a CAR without a root")
    return root or nodes[-1], blocks


class Blocks:
    def __init__(self, blocks):
        self.blocks = blocks

    def fetch(self, cid, codec=None):
        check_cid(cid, codec)
        need(cid in self.blocks, f"{cid_text(cid)} is missing")
        block = self.blocks[cid]
        need(len(block) <= MIB, "a block of more than 1 MiB")
        need(hashlib.sha256(block).digest() == cid[4:], f"{cid_text(cid)} does not match its CID")
        return block

    def leaf(self, cid, tsize):
        block = self.fetch(cid, 0x55)
        need(len(block) == tsize, "a length other than its link says")
        return block

    def node(self, cid, tsize):
        block = self.fetch(cid, 0x70)
        links, unixfs = decode_node(block)
        need(tsize is None or len(block) + sum(t for _, _, t in links) == tsize, "a wrong tsize")
        return block, links, unixfs


# Section 4: the directory


def decode_node(block):
    fields = decode_message(block, (0x12, 0x0A))
    need(len(fields) > 0 and [tag for tag, _ in fields] == [0x12] * (len(fields) - 1) + [0x0A], "links, then data")
    links = []
    for _, link in fields[:-1]:
        parts = decode_message(link, (0x0A, 0x12, 0x18))
        need([tag for tag, _ in parts] == [0x0A, 0x12, 0x18], "a link of other fields")
        cid, name, tsize = (value for _, value in parts)
        links.append((check_cid(cid), decode_text(name), tsize))
    unixfs = decode_message(fields[-1][1], (0x08, 0x12, 0x18, 0x20, 0x28, 0x30))
    tags = [tag for tag, _ in unixfs]
    need(tags[:1] == [0x08] and tags == sorted(tags), "UnixFS fields out of order")
    need(all(tags.count(tag) == 1 for tag in tags if tag != 0x20), "a UnixFS field twice")
    return links, unixfs


def decode_message(data, known):
    fields, at = [], 0
    while at < len(data):
        tag, at = data[at], at + 1
        need(tag in known, "an unknown field")
        value, at = varint(data, at)
        if tag & 7 == 2:
            need(at + value <= len(data), "a field that is cut off")
            value, at = data[at:at + value], at + value
        fields.append((tag, value))
    return fields


def decode_text(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("text that is not UTF-8") from None


def check_name(name):
    fine = name not in ("", ".", "..") and not set(name) & {"/", "\0"} and len(name.encode()) <= 255
    need(fine, "an impossible name")


def check_node(block):
    """Checks a node by itself; returns what it is, with its entries or parts."""
    links, unixfs = decode_node(block)
    kind = unixfs[0][1]
    names = [name for _, name, _ in links]
    if kind == 1:
        need(unixfs == [(0x08, 1)], "a directory with more than links")
        for name in names:
            check_name(name)
        raw = [name.encode() for name in names]
        need(all(a < b for a, b in zip(raw, raw[1:])), "entries out of order")
        need(len(block) <= DIRECTORY_MAX, "a directory that should be sharded")
        return "directory", links
    if kind == 5:
        need(0 < len(links) <= 256, "a shard of no or too many slots")
        need(all(re.match("[0-9A-F]{2}", name) for name in names), "a slot without its number")
        slots = [int(name[:2], 16) for name in names]
        need(all(a < b for a, b in zip(slots, slots[1:])), "slots out of order")
        for name in names:
            if name[2:]:
                check_name(name[2:])
        bits = sum(1 << slot for slot in slots)
        data = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
        need(unixfs == [(0x08, 5), (0x12, data), (0x28, 0x22), (0x30, 256)], "a shard of another kind")
        return "shard", links
    need(kind == 2, "neither a directory nor a file")
    sizes = [value for tag, value in unixfs if tag == 0x20]
    need(unixfs == [(0x08, 2), (0x18, sum(sizes))] + [(0x20, size) for size in sizes], "a file of another kind")
    need(not any(names) and len(sizes) == len(links) <= 1024, "a file whose parts do not fit")
    return "file", list(zip(links, sizes))


def read_file(blocks, cid, tsize, size_max):
    if cid[1] == 0x55:
        need(tsize <= size_max, "a file that is too large")
        return blocks.leaf(cid, tsize)
    block, _, _ = blocks.node(cid, tsize)
    kind, parts = check_node(block)
    need(kind == "file" and len(parts) >= 2, "not a file")
    sizes = [size for _, size in parts]
    need(all(size == MIB for size in sizes[:-1]) and 0 < sizes[-1] <= MIB, "a file cut elsewhere")
    need(sum(sizes) <= size_max and all(link[2] == size for link, size in parts), "a file of another size")
    return b"".join(blocks.leaf(link[0], size) for link, size in parts)


def read_directory(blocks, cid, tsize, depth=0):
    """All entries of a directory, sharded or not, as {name: (cid, tsize)}."""
    need(cid[1] == 0x70 and depth < 8, "a directory that is too deep, or none")
    block, _, _ = blocks.node(cid, tsize)
    kind, links = check_node(block)
    need(kind == ("shard" if depth else kind) and kind != "file", "not a directory")
    entries = {}
    for link, name, size in links:
        if kind == "shard" and len(name) == 2:
            inner = read_directory(blocks, link, size, depth + 1)
            need(len(inner) > 1 and not entries.keys() & inner.keys(), "a shard too many")
            entries.update(inner)
        else:
            entries[name[2:] if kind == "shard" else name] = (link, size)
    return entries


def read_root(blocks, root):
    block, _, _ = blocks.node(root, None)
    kind, links = check_node(block)
    need(kind == "directory", "a root that is not a directory")
    entries = {name: (cid, tsize) for cid, name, tsize in links}
    need(entries.keys() - {"capsule.age"} == FILES.keys() - {"capsule.age"} | {"s"}, "other names than a snapshot's")
    need(all(entries[name][0][1] == 0x55 for name in ("RECOVER.md", "recover.sh")), "a text that is not one block")
    files = {name: read_file(blocks, *entries[name], size) for name, size in FILES.items() if name in entries}
    objects = {}
    folders = check_node(blocks.node(*entries["s"])[0])
    need(folders[0] == "directory", "not a directory of folders")
    for cid, folder, tsize in folders[1]:
        inner = read_directory(blocks, cid, tsize)
        need(inner, "an empty folder")
        for name, (cid, tsize) in inner.items():
            need(cid == cid_bytes(name, 0x55) and name[-2:] == folder, "an object in a wrong place")
            need(0 < tsize <= MIB, "an impossible length")
            objects[cid] = tsize
    return files, objects


# Section 5: sealed objects


def run(*command, data=None):
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    need(done.returncode == 0, f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def decrypt(sealed, identity):
    need(sealed.startswith(b"age-encryption.org/v1\n"), "not a binary age file")
    return run("age", "-d", "-i", identity, data=sealed)


def frame_content_size(plain):
    need(plain[:4] == bytes.fromhex("28b52ffd") and len(plain) > 5, "not a zstd frame")
    descriptor, at = plain[4], 5
    single = descriptor >> 5 & 1
    if not single:
        exponent, mantissa = plain[at] >> 3, plain[at] & 7
        base = 1 << (10 + exponent)
        need(base + base // 8 * mantissa <= 128 * MIB, "a window of more than 128 MiB")
        at += 1
    need(descriptor & 3 == 0, "a dictionary")
    flag = descriptor >> 6
    need(flag > 0 or single, "no content size")
    size = (1, 2, 4, 8)[flag]
    need(at + size <= len(plain), "a frame that is cut off")
    return int.from_bytes(plain[at:at + size], "little") + (256 if flag == 1 else 0)


def frame_length(plain):
    """Length of the zstd frame that `plain` begins with: its blocks are walked, not decoded."""
    descriptor = plain[4]
    single, flag = descriptor >> 5 & 1, descriptor >> 6
    at = 5 + (0 if single else 1) + (1 if flag == 0 else (0, 2, 4, 8)[flag])
    while True:
        need(at + 3 <= len(plain), "a frame that is cut off")
        header = int.from_bytes(plain[at:at + 3], "little")
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        if header & 1:
            at += 4 if descriptor & 4 else 0
            need(at <= len(plain), "a frame that is cut off")
            return at


def padme(length):
    exponent = length.bit_length() - 1
    low = exponent - exponent.bit_length()
    return (length + (1 << low) - 1) >> low << low


def unframe(plain, size_max, size=None):
    found = frame_content_size(plain)
    need(found <= size_max and size in (None, found), f"{found} bytes, expected {size or size_max}")
    length = frame_length(plain)
    padding = plain[length:]
    if padding:
        zeros = padme(length + 8) - length - 8
        need(padding == bytes.fromhex("502a4d18") + zeros.to_bytes(4, "little") + bytes(zeros), "bytes after the frame")
    content = run("zstd", "-q", "-d", "-c", "--memory=128MB", data=plain[:length])
    need(len(content) == found, "a frame that holds something else than it says")
    return content


# Sections 6 to 8: texts


def lines_of(text):
    need(text.endswith(b"\n"), "text that does not end in a newline")
    return decode_text(text).split("\n")[:-1]


def parse_capsule(text):
    lines = lines_of(text)
    need(lines[0] == "# souverain capsule 1", "a capsule of another version, or none")
    pairs = list(zip(lines[1::2], lines[2::2]))
    need(0 < len(pairs) <= 4096 and len(lines) == 2 * len(pairs) + 1, "a capsule of odd lines")
    epochs = []
    for comment, identity in pairs:
        match = re.fullmatch("# class (portable|erasable) epoch ([1-9][0-9]{0,9})", comment)
        need(match and int(match[2]) < 1 << 32, "a malformed epoch")
        need(re.fullmatch("AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]+", identity), "a malformed identity")
        epochs.append((match[1] == "erasable", int(match[2])))
    need(all(a < b for a, b in zip(epochs, epochs[1:])), "epochs out of order")
    return {"erasable" if erasable else "portable" for erasable, _ in epochs}


NUMBER = "(0|[1-9][0-9]*)"
STRING, COUNT, OBJECTS = (str,), (int,), (list,)
SNAPSHOT = {"created": STRING, "mode": STRING, "node": STRING, "program": STRING, "session": STRING}
SOURCE = {"engine": STRING, "name": STRING, "version?": STRING, "warnings?": OBJECTS}
STREAM = {"source": COUNT, "kind": STRING, "name": STRING, "head": COUNT, "tail": COUNT, "bytes": COUNT,
          "rows?": COUNT, "columns?": OBJECTS, "content": STRING}
COLUMN = {"name": STRING, "type": STRING}


def members(value, expected):
    need(isinstance(value, dict), "not an object")
    names = [name for name in expected if not name.endswith("?") or name[:-1] in value]
    need(list(value) == [name.rstrip("?") for name in names], "other members, or another order")
    for name in names:
        found = value[name.rstrip("?")]
        need(type(found) in expected[name], f"{name} is of another type")
        need(found != [] and found != "" or not name.endswith("?"), f"{name} is empty")
        need(type(found) is not int or 0 <= found < 1 << 63, f"{name} is out of range")
    return value


def parse_json(text, expected):
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except ValueError:
        raise Refused("malformed JSON") from None
    need(json.dumps(value, ensure_ascii=False, separators=(",", ":")) == text, "JSON written in another way")
    return members(value, expected)


def unique(pairs):
    need(len({name for name, _ in pairs}) == len(pairs), "a member twice")
    return dict(pairs)


def parse_manifest(text):
    lines = lines_of(text)
    need(lines[0] == "souverain manifest 1", "a manifest of another version, or none")
    need(len(lines) > 1 and lines[1].startswith("snapshot "), "no snapshot")
    snapshot = parse_json(lines[1][9:], SNAPSHOT)
    need(snapshot["mode"] in ("portable", "erasable"), "an unknown mode")
    sources, streams = [], []
    for line in lines[2:]:
        keyword, _, rest = line.partition(" ")
        if keyword == "source":
            need(not streams, "a source after a stream")
            sources.append(parse_json(rest, SOURCE))
            need(sources[-1]["engine"] in ("tree", "sqlite", "postgres"), "an unknown engine")
            need(all(type(w) is str for w in sources[-1].get("warnings", [])), "a warning that is no text")
        elif keyword == "stream":
            match = re.fullmatch(NUMBER + r" ([A-Za-z0-9][A-Za-z0-9._-]{0,127}) (\{.*)", rest)
            need(match and int(match[1]) == len(streams), "a malformed stream line")
            streams.append((match[2], check_stream(parse_json(match[3], STREAM), sources), []))
        else:
            match = re.fullmatch(f"([a-z2-7]+) {NUMBER} {NUMBER} {NUMBER}", rest)
            need(keyword == "list" and match and streams, "an unknown or misplaced line")
            cid, (length, segments, size) = cid_bytes(match[1], 0x55), map(int, match.groups()[1:])
            need(0 < segments <= 1024, "a list of no or too many segments")
            streams[-1][2].append((cid, length, segments, size))
    check_streams(streams)
    return snapshot, sources, streams


def check_stream(meta, sources):
    need(meta["source"] < len(sources), "no such source")
    need(meta["kind"] in ("tree", "before", "table", "after"), "an unknown kind")
    need(meta["head"] < 1 << 32 and meta["tail"] < 1 << 32, "a head or tail out of range")
    need(meta["head"] + meta["tail"] <= meta["bytes"], "head and tail are longer than the stream")
    need((meta["kind"] == "table") == ("rows" in meta), "rows of what is no table, or a table without")
    need(meta["kind"] == "table" or "columns" not in meta, "columns of what is no table")
    for column in meta.get("columns", []):
        members(column, COLUMN)
    need(re.fullmatch("[0-9a-f]{64}", meta["content"]), "a malformed content hash")
    return meta


def check_streams(streams):
    files, names = {}, set()
    for file, meta, lists in streams:
        need(sum(size for *_, size in lists) == meta["bytes"], "lists that do not add up to their stream")
        need(files.setdefault(meta["source"], file) == file, "two files of one source")
        need(file != "load.sh" and not file.endswith(".part"), "a reserved file name")
        name = (meta["source"], meta["kind"], meta["name"])
        need(name not in names, "a name twice")
        names.add(name)
    need(len(set(files.values())) == len(files), "one file of two sources")
    order = [meta["source"] for _, meta, _ in streams]
    need(order == sorted(order), "streams of sources that are mixed")


def parse_list(text):
    segments = []
    for line in lines_of(text):
        match = re.fullmatch(f"([a-z2-7]+) {NUMBER} {NUMBER} ([0-9a-f]{{64}})", line)
        need(match, "a malformed segment")
        cid, length, rows = cid_bytes(match[1], 0x55), int(match[2]), int(match[3])
        need(0 < length <= PIECE_MAX and rows <= length, "an impossible length or number of rows")
        segments.append((cid, length, rows, bytes.fromhex(match[4])))
    need(0 < len(segments) <= 1024, "a list of no or too many segments")
    return segments


# Section 10: a whole snapshot


def read_snapshot(path, identity, directory):
    root, car = read_car(path)
    blocks = Blocks(car)
    files, objects = read_root(blocks, root)
    need("capsule.age" in files, "erasable: the capsule is elsewhere")
    capsule = decrypt(files["capsule.age"], identity)
    classes = parse_capsule(capsule)
    ids = os.path.join(directory, "ids")
    with open(ids, "wb") as file:
        file.write(capsule)
    snapshot, _, streams = parse_manifest(unframe(decrypt(files["manifest.age"], ids), MANIFEST_PLAIN_MAX))
    need({snapshot["mode"]} == classes == {"portable"}, "another mode than the capsule's")
    outputs = {}
    for file, meta, lists in streams:
        content = read_stream(blocks, objects, ids, meta, lists)
        outputs[file] = outputs.get(file, b"") + content
    return outputs


def open_object(blocks, objects, ids, cid, length):
    need(cid in objects, f"{cid_text(cid)} is not in s")
    return unframe(decrypt(blocks.leaf(cid, objects[cid]), ids), length, length)


def read_stream(blocks, objects, ids, meta, lists):
    pieces, rows, hashed = [], 0, b""
    for cid, length, count, size in lists:
        segments = parse_list(open_object(blocks, objects, ids, cid, length))
        need(len(segments) == count, "another number of segments")
        need(sum(length for _, length, _, _ in segments) == size, "another number of bytes")
        for cid, length, ended, digest in segments:
            piece = open_object(blocks, objects, ids, cid, length)
            need(blake3.hash(piece) == digest, f"{cid_text(cid)} holds another piece")
            pieces.append(piece)
            rows += ended
            hashed += length.to_bytes(4, "little") + digest
    need(rows == meta.get("rows", 0), "another number of rows")
    need(blake3.derive_key("souverain 1 stream content", hashed).hex() == meta["content"], "another content hash")
    return b"".join(pieces)


def check(kind, path, *rest):
    with open(path, "rb") as file:
        data = file.read()
    if kind == "object":
        length, ids = rest
        unframe(decrypt(data, ids), int(length), int(length))
    elif kind == "car":
        with tempfile.TemporaryDirectory() as directory:
            read_snapshot(path, rest[0], directory)
    else:
        {"capsule": parse_capsule, "manifest": parse_manifest, "list": parse_list, "node": check_node}[kind](data)


def main(args):
    try:
        if args[:1] == ["--check"]:
            check(*args[1:])
            return 0
        path, identity, out = args
        with tempfile.TemporaryDirectory() as directory:
            outputs = read_snapshot(path, identity, directory)
        os.makedirs(out)
        for name, content in outputs.items():
            with open(os.path.join(out, name), "xb") as file:
                file.write(content)
        return 0
    except Refused as why:
        print(f"refused: {why}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

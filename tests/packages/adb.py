# The container and the values of apk-tools 3 (its doc/apk-v3.5.scd and the code
# that writes packages): compression, blocks, and the tree of values in the ADB
# block. Knows nothing of what a package is; that is apk.py.
import dataclasses
import struct

from model import Broken, inflate, show

ADB, SIG, DATA, EXT = range(4)
BLOCK_NAMES = ["ADB", "SIG", "DATA", "extended"]
NULL = 0
SPECIAL, INT, INT32, INT64 = 0x0, 0x1, 0x2, 0x3
BLOB8, BLOB16, BLOB32, ARRAY, OBJECT = 0x8, 0x9, 0xA, 0xD, 0xE
# Bytes of the length before a blob, and its smallest length: shorter ones take the kind before.
BLOBS = {BLOB8: (1, 1), BLOB16: (2, 0x100), BLOB32: (4, 0x10000)}
# A package is pkginfo, depends, dependency below the root; nothing needs more.
MAX_DEPTH = 12
HEADER = 8


def unwrap(raw):
    """The container without its compression."""
    magic = raw[:4]
    if magic == b"ADB.":
        return raw
    if magic == b"ADBd":
        packed = raw[4:]
    elif magic == b"ADBc":
        if len(raw) < 6:
            raise Broken("truncated compression header")
        algorithm, level = raw[4], raw[5]
        if algorithm == 2:
            raise Broken("compressed with zstd, which this reader does not read; apk's default, deflate, is what OpenWrt uses")
        if algorithm != 1 or not 1 <= level <= 9:
            raise Broken(f"unknown compression {algorithm}, level {level}")
        packed = raw[6:]
    else:
        raise Broken(f"no apk of version 3: begins with {show(magic)}")
    data, rest = inflate(packed, "container")
    if rest:
        raise Broken(f"{len(rest)} bytes after the compressed container")
    return data


@dataclasses.dataclass
class Block:
    kind: int
    payload: bytes
    offset: int  # in the unpacked container


def blocks(data, schema, bad):
    """The blocks of a container with that schema (four letters): one ADB, some SIG, some DATA."""
    if len(data) < 8 or data[:4] != b"ADB.":
        raise Broken(f"no container: begins with {show(data[:4])}")
    if data[4:8] != schema:
        raise Broken(f"schema {show(data[4:8])}, not {show(schema)}")
    found, offset = [], 8
    while offset < len(data):
        where = f"block at byte {offset}"
        if len(data) - offset < 4:
            raise Broken(f"{where}: truncated header")
        (word,) = struct.unpack_from("<I", data, offset)
        kind, size, head = word >> 30, word & 0x3FFFFFFF, 4
        if kind == EXT:
            raise Broken(f"{where}: an extended block, for which no package is large enough")
        if size < head:
            raise Broken(f"{where}: size {size} is smaller than its header")
        if offset + size > len(data):
            raise Broken(f"{where}: its {size} bytes go beyond the end")
        padded = (offset + size + 7) // 8 * 8
        if padded > len(data):
            raise Broken(f"{where}: truncated padding: blocks are aligned to 8 bytes")
        if data[offset + size : padded].strip(b"\0"):
            bad(f"{where}: padding that is not zero")
        before = found[-1].kind if found else None
        if (kind == ADB) != (before is None) or (before is not None and kind < before):
            raise Broken(f"{where}: a {BLOCK_NAMES[kind]} block must not come here")
        found.append(Block(kind, data[offset + head : offset + size], offset))
        offset = padded
    if not found:
        raise Broken("no ADB block")
    return found


class Values:
    """The values of an ADB block. `bad` takes what is wrong with how they are laid out."""

    def __init__(self, payload, bad):
        self.payload, self.bad = payload, bad
        self.taken = {}  # offset: length, of everything that a value refers to
        self.users = {}  # offset: how many values refer to it
        if len(payload) < HEADER:
            raise Broken("ADB block: shorter than its header")
        compatible, version, reserved, self.root = struct.unpack_from("<BBHI", payload)
        if compatible or version or reserved:
            raise Broken(f"ADB block: version {compatible}.{version} ({reserved}), not 0.0 (0)")
        self.slots_left = len(payload) // 4
        self.walk(self.root, "root", [])
        self.check_layout()

    def at(self, offset, length, align, where):
        """Notes that a value lies there. Only what is in the block and aligned is read."""
        if offset < HEADER or offset + length > len(self.payload):
            raise Broken(f"{where}: offset {offset:#x} with {length} bytes is outside of the block")
        self.aligned(offset, align, where)
        known = self.taken.setdefault(offset, length)
        if known != length:
            self.bad(f"{where}: overlaps another value at {offset:#x}")
            self.taken[offset] = max(known, length)
        self.users[offset] = self.users.get(offset, 0) + 1

    def aligned(self, offset, align, where):
        if offset % align:
            raise Broken(f"{where}: offset {offset:#x} is misaligned: not a multiple of {align}")

    def unpack(self, form, offset, where):
        length = struct.calcsize(form)
        if offset < HEADER or offset + length > len(self.payload):
            raise Broken(f"{where}: offset {offset:#x} with {length} bytes is outside of the block")
        return struct.unpack_from(form, self.payload, offset)[0]

    def walk(self, tag, where, above):
        """Reads everything below a value once, whatever it means: offsets, loops, forms."""
        kind, value = tag >> 28, tag & 0x0FFFFFFF
        if kind == INT:
            return
        if kind == SPECIAL:
            if value > 2:
                raise Broken(f"{where}: unknown special value {value:#x}")
        elif kind in (INT32, INT64):
            width, least = (4, 1 << 28) if kind == INT32 else (8, 1 << 32)
            self.at(value, width, 4, where)
            if self.unpack("<I" if kind == INT32 else "<Q", value, where) < least:
                self.bad(f"{where}: a number in a larger form than it needs")
        elif kind in BLOBS:
            width, least = BLOBS[kind]
            self.aligned(value, width, where)
            length = self.unpack({1: "<B", 2: "<H", 4: "<I"}[width], value, where)
            self.at(value, width + length, width, where)
            if length < least:
                self.bad(f"{where}: a blob in a larger form than it needs")
        elif kind in (ARRAY, OBJECT):
            self.walk_slots(value, where, above)
        else:
            raise Broken(f"{where}: unknown type {kind:#x}")

    def walk_slots(self, offset, where, above):
        if offset in above:
            raise Broken(f"{where}: a loop: {offset:#x} holds itself")
        if len(above) >= MAX_DEPTH:
            raise Broken(f"{where}: values nested deeper than {MAX_DEPTH}")
        self.aligned(offset, 4, where)
        count = self.unpack("<I", offset, where)
        if count < 2:
            raise Broken(f"{where}: {count} slots; the first is the count, and none are written as null")
        seen = offset in self.taken
        self.at(offset, 4 * count, 4, where)
        if seen:
            return
        self.slots_left -= count
        if self.slots_left < 0:
            raise Broken(f"{where}: values overlap each other")
        slots = struct.unpack_from(f"<{count - 1}I", self.payload, offset + 4)
        if slots[-1] == NULL:
            self.bad(f"{where}: its last slot is null, which is left out")
        for index, slot in enumerate(slots, 1):
            self.walk(slot, f"{where}.{index}", above + [offset])

    def check_layout(self):
        """Values do not overlap, and nothing but padding lies between them."""
        end = HEADER
        for offset in sorted(self.taken):
            if offset < end:
                self.bad(f"ADB block: the value at {offset:#x} overlaps the one before it")
            self.check_gap(end, offset)
            end = max(end, offset + self.taken[offset])
        self.check_gap(end, len(self.payload))

    def check_gap(self, start, end):
        gap = self.payload[start:end]
        if len(gap) > 3 or gap.strip(b"\0"):
            self.bad(f"ADB block: {len(gap)} bytes at {start:#x} belong to no value")

    # Reading, after the walk has seen every offset.

    def slots(self, tag, where):
        """The slots of an array or object; index 0 is the first after the count. apk itself writes
        arrays as objects, and reads either."""
        kind, offset = tag >> 28, tag & 0x0FFFFFFF
        if tag == NULL:
            return []
        if kind not in (ARRAY, OBJECT):
            raise Broken(f"{where}: neither array nor object")
        count = self.unpack("<I", offset, where)
        return list(struct.unpack_from(f"<{count - 1}I", self.payload, offset + 4))

    def number(self, tag, where):
        """A number, or None where there is none."""
        kind, value = tag >> 28, tag & 0x0FFFFFFF
        if tag == NULL:
            return None
        if kind == INT:
            return value
        if kind in (INT32, INT64):
            return self.unpack("<I" if kind == INT32 else "<Q", value, where)
        raise Broken(f"{where}: no number")

    def blob(self, tag, where):
        """Bytes, or None where there are none."""
        span = self.blob_span(tag, where)
        return None if span is None else self.payload[span[0] : span[1]]

    def blob_span(self, tag, where):
        kind, offset = tag >> 28, tag & 0x0FFFFFFF
        if tag == NULL:
            return None
        if kind not in BLOBS:
            raise Broken(f"{where}: no blob")
        width = BLOBS[kind][0]
        length = self.unpack({1: "<B", 2: "<H", 4: "<I"}[width], offset, where)
        return offset + width, offset + width + length

# Packages built byte by byte, for the reader's own tests: right ones, and such
# with one damage. Shares nothing with the reader or with what builds vpnd's.
import hashlib
import struct
import zlib

TIME = 1700000000
INIT = b"#!/bin/sh /etc/rc.common\nSTART=50\nUSE_PROCD=1\n"
POSTINST = b"""#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
"""
PRERM = b"""#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
"""
BODY = b"#!/bin/sh\necho bye\nexit 0\n"


def files():
    """Path, mode, content of the package's files; a directory has None."""
    return [
        ["etc", 0o755, None],
        ["etc/config", 0o755, None],
        ["etc/config/demo", 0o600, b"config demo 'main'\n\toption enabled '0'\n"],
        ["etc/init.d", 0o755, None],
        ["etc/init.d/demo", 0o755, INIT],
        ["lib", 0o755, None],
        ["lib/upgrade", 0o755, None],
        ["lib/upgrade/keep.d", 0o755, None],
        ["lib/upgrade/keep.d/demo", 0o644, b"/etc/demo/\n"],
        ["usr", 0o755, None],
        ["usr/sbin", 0o755, None],
        ["usr/sbin/demo", 0o755, b"#!/bin/sh\n" + b"# filling\n" * 40],
    ]


# .ipk


def header(name, size=0, mode=0o644, flag=b"0", uid=0, mtime=TIME, magic=b"ustar  \0", target=b"", owner=b"", checksum=None):
    name = name if isinstance(name, bytes) else name.encode()
    head = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, uid, size, mtime)
    head += b" " * 8 + flag + target.ljust(100, b"\0") + magic + owner.ljust(32, b"\0")
    head = head.ljust(512, b"\0")
    total = sum(head) if checksum is None else checksum
    return head[:148] + b"%06o\0 " % total + head[156:]


def member(name, data=b"", **fields):
    return header(name, len(data), **fields) + data + bytes(-len(data) % 512)


def tar(members):
    whole = b"".join(members) + bytes(1024)
    return whole + bytes(-len(whole) % 10240)


def gz(data, flags=0, time=0, extra=b""):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = struct.pack("<HBBIBB", 0x8B1F, 8, flags, time, 2, 3) + extra
    return head + packer.compress(data) + packer.flush() + struct.pack("<II", zlib.crc32(data), len(data))


def data_members(tree):
    members = [member("./", mode=0o755, flag=b"5")]
    for path, mode, content in tree:
        directory = content is None
        members.append(member("./" + path + "/" * directory, content or b"", mode=mode, flag=b"5" if directory else b"0"))
    return members


def control_text(size, **changes):
    fields = {
        "Package": "demo", "Version": "1.2.3-r1", "Depends": "libc, zlib (>= 1.2)", "Source": "feeds/demo",
        "License": "GPL-3.0-or-later", "Section": "net", "SourceDateEpoch": str(TIME), "Architecture": "mips_24kc",
        "Installed-Size": str(size), "Description": " Shows what a package is.\n And how it is read.",
    } | changes
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None).encode()


def ipk_scripts():
    return {"postinst": POSTINST + b"default_postinst $0 $@\n", "prerm": PRERM + b"default_prerm $0 $@\n", "prerm-pkg": BODY}


def ipk(tree=None, data=None, control=None, conffiles=b"/etc/config/demo\n", scripts=None, modes={}, changes={}, outer=None, wrap=gz):
    """An .ipk; each argument replaces a part of it."""
    data = data if data is not None else tar(data_members(tree or files()))
    parts = {"control": control if control is not None else control_text(len(data), **changes), "conffiles": conffiles}
    parts |= scripts if scripts is not None else ipk_scripts()
    members = [member("./", mode=0o755, flag=b"5")]
    for name in sorted(parts):
        members.append(member("./" + name, parts[name], mode=modes.get(name, 0o644 if name in ("control", "conffiles") else 0o755)))
    three = [member("./debian-binary", b"2.0\n"), member("./data.tar.gz", gz(data)), member("./control.tar.gz", gz(tar(members)))]
    return wrap(tar(outer(three) if outer else three))


# .apk


class Writer:
    """The values of an ADB block, put one after the other."""

    def __init__(self):
        self.buffer, self.known = bytearray(8), {}

    def put(self, data, align, again=True):
        if again and (data, align) in self.known:
            return self.known[data, align]
        self.buffer += bytes(-len(self.buffer) % align)
        self.known[data, align] = len(self.buffer)
        self.buffer += data
        return self.known[data, align]

    def blob(self, data, again=True):
        data = data.encode() if isinstance(data, str) else data
        if not data:
            return 0
        kind, form = (0x8, "<B") if len(data) < 0x100 else (0x9, "<H") if len(data) < 0x10000 else (0xA, "<I")
        return kind << 28 | self.put(struct.pack(form, len(data)) + data, struct.calcsize(form), again)

    def number(self, value):
        if value < 1 << 28:
            return 1 << 28 | value
        if value < 1 << 32:
            return 2 << 28 | self.put(struct.pack("<I", value), 4)
        return 3 << 28 | self.put(struct.pack("<Q", value), 4)

    def slots(self, *values):
        values = list(values)
        while values and not values[-1]:
            values.pop()
        return 0xE << 28 | self.put(struct.pack(f"<{len(values) + 1}I", len(values) + 1, *values), 4) if values else 0


def apk_tree(tree=None):
    """The files with what OpenWrt adds to them for apk, by their directories."""
    tree = tree or files()
    paths = sorted("/" + path for path, _, content in tree if content is not None)
    config = next((content for path, _, content in tree if path == "etc/config/demo"), b"")
    own = {
        "conffiles": b"/etc/config/demo\n/etc/demo/\n",
        "conffiles_static": b"/etc/config/demo " + hashlib.sha256(config or b"").hexdigest().encode() + b"\n",
        "list": "".join(path + "\n" for path in paths).encode(),
    }
    tree = tree + [["lib/apk", 0o755, None], ["lib/apk/packages", 0o755, None]]
    return tree + [[f"lib/apk/packages/demo.{name}", 0o644, content] for name, content in own.items()]


def apk_scripts():
    middle = b'export root="${IPKG_INSTROOT}"\nexport pkgname="demo"\n'
    post = POSTINST + middle + b"add_group_and_user\ndefault_postinst\n"
    return {3: post, 4: PRERM + middle + b"default_prerm\n" + BODY.split(b"\n", 1)[1], 7: b"#!/bin/sh\nexport PKG_UPGRADE=1\n" + post.split(b"\n", 1)[1]}


def acl(writer, mode, user="root"):
    return writer.slots(writer.number(mode), writer.blob(user), writer.blob("root"))


def apk_parts(tree=None, size=None, depends=("libc", "zlib>=1.2"), mtime=TIME, scripts=None, sort=True, user="root", info={}):
    """The payload of the ADB block, with its hash, and the payloads of the DATA blocks."""
    writer = Writer()
    tree = apk_tree() if tree is None else tree
    directories = {"": (0o755, [])} | {path: (mode, []) for path, mode, content in tree if content is None}
    for path, mode, content in tree:
        if content is not None:
            directories[path.rpartition("/")[0]][1].append((path.rpartition("/")[2], mode, content))
    total = sum(len(content) for _, _, content in tree if content)
    slots, blocks = [], []
    for count, name in enumerate(sorted(directories) if sort else directories, 1):
        mode, inside = directories[name]
        items = []
        for index, (file, file_mode, content) in enumerate(sorted(inside) if sort else inside, 1):
            digest = writer.blob(hashlib.sha256(content).digest())
            items.append(writer.slots(writer.blob(file), acl(writer, file_mode, user), writer.number(len(content)), writer.number(mtime), digest))
            if content:
                blocks.append(struct.pack("<II", count, index) + content)
        slots.append(writer.slots(writer.blob(name), acl(writer, mode), writer.slots(*items)))
    fields = {1: "demo", 2: "1.2.3-r1", 4: "Shows what a package is. And how it is read.", 5: "mips_24kc", 6: "GPL-3.0-or-later", 7: "feeds/demo"} | info
    values = [writer.blob(fields[index]) if index in fields else 0 for index in range(1, 12)]
    values[2] = unique = writer.blob(bytes(20), again=False)
    dependencies = []
    for item in depends:
        name, _, version = item.partition(">=")
        dependencies.append(writer.slots(writer.blob(name), writer.blob(version), writer.number(5) if version else 0))
    values += [writer.number(total if size is None else size), 0, 0, writer.slots(*dependencies)]
    pkginfo = writer.slots(*values)
    scripts = apk_scripts() if scripts is None else scripts
    scripts = writer.slots(*[writer.blob(scripts.get(index, b"")) for index in range(1, 8)])
    struct.pack_into("<I", writer.buffer, 4, writer.slots(pkginfo, writer.slots(*slots), scripts))
    return rehash(bytes(writer.buffer), unique & 0x0FFFFFFF), blocks, unique & 0x0FFFFFFF


def rehash(payload, unique):
    """Puts the block's own hash right after a change to it."""
    cleared = payload[: unique + 1] + bytes(20) + payload[unique + 21 :]
    return payload[: unique + 1] + hashlib.sha256(cleared).digest()[:20] + payload[unique + 21 :]


def block(kind, payload, size=None, pad=None):
    size = len(payload) + 4 if size is None else size
    return struct.pack("<I", kind << 30 | size) + payload + (bytes(-(len(payload) + 4) % 8) if pad is None else pad)


def container(payload, blocks):
    return b"ADB.pckg" + block(0, payload) + b"".join(block(2, data) for data in blocks)


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"ADBd" + packer.compress(data) + packer.flush()


def apk(**changes):
    payload, blocks, _ = apk_parts(**changes)
    return deflated(container(payload, blocks))

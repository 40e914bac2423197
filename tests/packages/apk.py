# Reads .apk of apk-tools 3: the package object, and the content of its files.
import hashlib
import struct

import adb
from model import Broken, Entry, name_problem, show, target_problem, text

# Names of the slots, in order: what apk-tools calls them when it prints a package.
PACKAGE = ["info", "paths", "scripts", "triggers", "replaces-priority"]
INFO = """name version hashes description arch license origin maintainer url repo-commit build-time
    installed-size file-size provider-priority depends provides replaces install-if recommends layer tags""".split()
TEXTS = "name version description arch license origin maintainer url".split()
NUMBERS = "build-time installed-size file-size provider-priority layer".split()
BLOBS = ["hashes", "repo-commit"]
DEPENDENCIES = "depends provides replaces install-if recommends".split()
SCRIPTS = "trigger pre-install post-install pre-deinstall post-deinstall pre-upgrade post-upgrade".split()
DIRECTORY, FILE, ACL = ["name", "acl", "files"], ["name", "acl", "size", "mtime", "hash", "target"], ["mode", "user", "group", "xattrs"]
# How a dependency's version compares, by the bits of its third slot.
MATCHES = {1: "=", 2: "<", 3: "<=", 4: ">", 5: ">=", 8: "~", 9: "~", 11: "<~", 13: ">~"}
KINDS = {0o120000: "link", 0o100000: "hardlink"}
# Directories and files of all packages; apk-tools' own largest have some thousands.
MAX_ENTRIES = 20000
DIGEST_SHA512 = 4


def read(raw, package):
    """Fills in the package from the bytes of an .apk. What is wrong with it is in its `problems`."""
    found = adb.blocks(adb.unwrap(raw), b"pckg", package.bad)
    values = adb.Values(found[0].payload, package.bad)
    root = named(values, values.root, PACKAGE, "package")
    read_info(values, root.pop("info", adb.NULL), package)
    pending = read_paths(values, root.pop("paths", adb.NULL), package)
    for name, tag in named(values, root.pop("scripts", adb.NULL), SCRIPTS, "scripts").items():
        package.scripts[name] = values.blob(tag, f"scripts: {name}") or b""
    for name in root:
        package.bad(f"package: {name} is set, which OpenWrt's packages do not use")
    read_signatures([block for block in found if block.kind == adb.SIG], package)
    read_data([block for block in found if block.kind == adb.DATA], pending, package)
    check_size(package)
    listed = package.find(f"/lib/apk/packages/{package.name}.conffiles")
    if listed:
        files = {entry.path for entry in package.entries if entry.kind == "file"}
        package.conffiles = [line for line in text(listed.data).splitlines() if line in files]


def named(values, tag, names, where):
    """The slots of an object by their names, without those that are null."""
    slots = values.slots(tag, where)
    if len(slots) > len(names):
        raise Broken(f"{where}: {len(slots)} slots, where {len(names)} are known")
    return {name: slot for name, slot in zip(names, slots) if slot != adb.NULL}


def read_info(values, tag, package):
    info = named(values, tag, INFO, "info")
    for name, slot in info.items():
        where = f"info: {name}"
        if name in TEXTS:
            package.meta[name] = text(values.blob(slot, where))
        elif name in NUMBERS:
            package.meta[name] = values.number(slot, where)
        elif name in BLOBS:
            package.meta[name] = values.blob(slot, where).hex()
        elif name in DEPENDENCIES:
            found = [dependency(values, item, where) for item in values.slots(slot, where)]
            check_order([item[0] for item in found], where, package)
            package.meta[name] = [item[1] for item in found]
        else:
            package.meta[name] = [text(values.blob(item, where) or b"") for item in values.slots(slot, where)]
    if "hashes" not in info:
        raise Broken("info: no hashes, the package's unique id")
    check_id(values, info["hashes"], package)


def check_id(values, tag, package):
    """The first 20 bytes of the block's SHA-256, taken while they are zero."""
    start, end = values.blob_span(tag, "info: hashes")
    payload = values.payload
    if end - start != 20:
        package.bad(f"info: hashes has {end - start} bytes, not 20")
    elif hashlib.sha256(payload[:start] + bytes(20) + payload[end:]).digest()[:20] != payload[start:end]:
        package.bad("info: hashes is not the hash of the ADB block")
    if values.users[tag & 0x0FFFFFFF] != 1:
        package.bad("info: hashes is shared with another value")


def dependency(values, tag, where):
    """Its name, which decides the order, and all of it: `name>=1.2`, `!name`."""
    found = named(values, tag, ["name", "version", "match"], where)
    name = text(values.blob(found.get("name", adb.NULL), where) or b"")
    if not name:
        raise Broken(f"{where}: a dependency without a name")
    version = text(values.blob(found.get("version", adb.NULL), where) or b"")
    match = values.number(found.get("match", adb.NULL), where)
    conflict = "!" if (match or 0) & 16 else ""
    if not version:
        return name, conflict + name
    sign = MATCHES.get((1 if match is None else match) & 15)
    if not sign:
        raise Broken(f"{where}: {show(name)}: unknown comparison {match}")
    return name, f"{conflict}{name}{sign}{version}"


def check_order(names, where, package):
    """Sorted by bytes, as apk looks entries up by halving."""
    for before, after in zip(names, names[1:]):
        if before.encode() > after.encode():
            package.bad(f"{where}: {show(after)} is not in order after {show(before)}")


def read_acl(values, tag, where, package):
    found = named(values, tag, ACL, where)
    mode = values.number(found.get("mode", adb.NULL), where)
    owners = [text(values.blob(found.get(name, adb.NULL), where) or b"") for name in ("user", "group")]
    if mode is None or mode > 0o7777 or "" in owners:
        package.bad(f"{where}: acl without mode, user or group, or a mode beyond 7777")
    if "xattrs" in found:
        package.bad(f"{where}: extended attributes")
    return (mode or 0) & 0o7777, *owners


def read_paths(values, tag, package):
    """Fills in the entries. Returns those that have a DATA block: (path index, file index, entry, hash)."""
    pending, names, count = [], [], 0
    for path_index, slot in enumerate(values.slots(tag, "paths"), 1):
        found = named(values, slot, DIRECTORY, "path")
        name = text(values.blob(found.get("name", adb.NULL), "path") or b"")
        where = f"path {show(name)}"
        usable = good_name(name, where, package) if name or path_index > 1 else True
        names.append(name)
        entry = Entry("/" + name, "dir", *read_acl(values, found.get("acl", adb.NULL), where, package))
        if name and usable:
            package.entries.append(entry)
        elif not name and entry.mode != 0o755:
            package.bad(f"the root directory has mode {entry.mode:04o}, not 0755")
        files = []
        for file_index, item in enumerate(values.slots(found.get("files", adb.NULL), where), 1):
            count += 1
            if count > MAX_ENTRIES:
                raise Broken(f"more than {MAX_ENTRIES} files")
            entry, digest = read_file(values, item, name, package)
            files.append(entry.path.removeprefix("/" + name).removeprefix("/"))
            if usable and good_name(entry.path[1:], where, package):
                package.entries.append(entry)
            if entry.kind == "file" and entry.size:
                pending.append((path_index, file_index, entry, digest))
        check_order(files, where, package)
    check_order(names, "paths", package)
    seen = set()
    for entry in package.entries:
        if entry.path in seen:
            package.bad(f"{show(entry.path)} is there more than once")
        seen.add(entry.path)
    return pending


def good_name(name, where, package):
    problem = name_problem(name)
    if problem:
        package.bad(f"{where}: {show(name)}: {problem}")
    return not problem


def read_file(values, tag, directory, package):
    found = named(values, tag, FILE, "file")
    name = text(values.blob(found.get("name", adb.NULL), "file") or b"")
    where = f"file {show((directory + '/' if directory else '') + name)}"
    if "/" in name or name in ("", ".", ".."):
        package.bad(f"{where}: its name {show(name)} is not the name of a file")
    path = "/" + (directory + "/" if directory else "") + name
    entry = Entry(path, "file", *read_acl(values, found.get("acl", adb.NULL), where, package))
    entry.size = values.number(found.get("size", adb.NULL), where)
    entry.mtime = values.number(found.get("mtime", adb.NULL), where)
    if entry.size is None or entry.mtime is None:
        package.bad(f"{where}: no size or no mtime")
        entry.size, entry.mtime = entry.size or 0, entry.mtime or 0
    if entry.mtime >= 1 << 33:
        package.bad(f"{where}: mtime {entry.mtime} is beyond what a tar could hold")
    package.mtimes.add(entry.mtime)
    digest = values.blob(found.get("hash", adb.NULL), where)
    target = values.blob(found.get("target", adb.NULL), where)
    if target is not None:
        read_target(entry, target, where, package)
        if digest is not None and entry.kind == "link":
            package.bad(f"{where}: a link with a hash")
    elif digest is None or len(digest) != 32:
        package.bad(f"{where}: no SHA-256")
    elif not entry.size and digest != hashlib.sha256(b"").digest():
        package.bad(f"{where}: wrong hash for no content")
    return entry, digest


def read_target(entry, target, where, package):
    """Two bytes of file type, then what a link points to."""
    if len(target) < 3:
        raise Broken(f"{where}: truncated target")
    entry.kind = KINDS.get(struct.unpack_from("<H", target)[0], "special")
    entry.target = text(target[2:])
    if entry.kind in ("link", "hardlink") and target_problem(entry.target):
        package.bad(f"{where}: {target_problem(entry.target)}")
    if entry.kind == "link" and entry.size not in (0, len(target) - 2):
        package.bad(f"{where}: size {entry.size}, but its target has {len(target) - 2} bytes")


def read_signatures(blocks, package):
    """Notes who signed. Whether rightly is for those who have the key."""
    for block in blocks:
        if len(block.payload) < 19 or block.payload[0] != 0 or block.payload[1] != DIGEST_SHA512:
            package.bad(f"block at byte {block.offset}: no signature of version 0 over SHA-512")
            continue
        package.signatures.append(block.payload[2:18].hex())


def read_data(blocks, pending, package):
    """Each non-empty regular file has one DATA block, in the order of the paths."""
    for block in blocks:
        where = f"DATA block at byte {block.offset}"
        if len(block.payload) < 8:
            raise Broken(f"{where}: shorter than its header")
        indices = struct.unpack_from("<II", block.payload)
        if not pending or indices != pending[0][:2]:
            expected = f"{pending[0][:2]}" if pending else "no further one"
            raise Broken(f"{where}: is for {indices}, but {expected} must come here")
        _, _, entry, digest = pending.pop(0)
        entry.data = block.payload[8:]
        if len(entry.data) != entry.size:
            package.bad(f"{where}: {len(entry.data)} bytes, but {show(entry.path)} has {entry.size}")
        elif hashlib.sha256(entry.data).digest() != digest:
            package.bad(f"{where}: wrong hash for {show(entry.path)}")
    for _, _, entry, _ in pending:
        package.bad(f"{show(entry.path)} has no DATA block")


def check_size(package):
    """Hard links share their content, and a package with anything in it has a size."""
    total = sum(entry.size for entry in package.entries if entry.kind == "file") or 1
    size = package.meta.get("installed-size")
    if size != total:
        package.bad(f"info: installed-size {size}, but the files have {total} bytes")

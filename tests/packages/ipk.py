# Reads .ipk: a gzip'd tar of debian-binary, data.tar.gz and control.tar.gz, as
# OpenWrt's scripts/ipkg-build writes it (facts: packaging, .ipk on disk). The
# tar headers are read here and not by tarfile, which forgives and hides too much.
import collections
import dataclasses
import re
import struct
import zlib

from model import Broken, Entry, inflate, name_problem, show, target_problem, text

OUTER = ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
KINDS = {b"0": "file", b"1": "hardlink", b"2": "link", b"5": "dir"}
SCRIPTS = ["preinst", "postinst", "prerm", "postrm", "preinst-pkg", "postinst-pkg", "prerm-pkg", "postrm-pkg"]


@dataclasses.dataclass
class Member:
    name: str  # as in the archive
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    target: str
    data: bytes


def read(raw, package):
    """Fills in the package from the bytes of an .ipk. What is wrong with it is in its `problems`."""
    outer = untar(gunzip(raw, "outer archive", package), "outer archive", package)
    if [member.name for member in outer] != OUTER:
        package.bad(f"outer archive: members {[member.name for member in outer][:9]}, not {OUTER}")
    parts = {member.name: member for member in outer}
    for name in OUTER:
        if name not in parts:
            raise Broken(f"outer archive: no {name}")
        if parts[name].kind != "file" or parts[name].mode != 0o644:
            package.bad(f"outer archive: {name} is no file of mode 0644")
    if parts[OUTER[0]].data != b"2.0\n":
        package.bad(f"debian-binary: {show(parts[OUTER[0]].data[:20])}, not '2.0\\n'")
    data = gunzip(parts[OUTER[1]].data, "data.tar.gz", package)
    read_data(untar(data, "data.tar", package), package)
    control = gunzip(parts[OUTER[2]].data, "control.tar.gz", package)
    read_control(untar(control, "control.tar", package), package)
    size = package.meta.get("Installed-Size", "")
    if size != str(len(data)):
        package.bad(f"control: Installed-Size {show(size)}, but data.tar has {len(data)} bytes")


def gunzip(raw, what, package):
    """The content of exactly one gzip member whose header holds neither name nor time."""
    if len(raw) < 18:
        raise Broken(f"{what}: {len(raw)} bytes are no gzip")
    magic, method, flags, time = struct.unpack("<HBBI", raw[:8])
    if magic != 0x8B1F or method != 8:
        raise Broken(f"{what}: no gzip")
    if flags:
        raise Broken(f"{what}: gzip header with a name or other extras (flags {flags:#x})")
    if time:
        package.bad(f"{what}: gzip header with a time ({time})")
    data, rest = inflate(raw[10:], what)
    if len(rest) < 8:
        raise Broken(f"{what}: truncated gzip trailer")
    crc, size = struct.unpack("<II", rest[:8])
    if crc != zlib.crc32(data):
        package.bad(f"{what}: wrong gzip checksum")
    if size != len(data):
        package.bad(f"{what}: gzip trailer says {size} bytes, there are {len(data)}")
    if len(rest) > 8:
        package.bad(f"{what}: {len(rest) - 8} bytes after the gzip data")
    return data


def number(field, what):
    """An octal field of a tar header, as GNU tar writes it: digits, then NUL or space."""
    found = re.fullmatch(rb"([0-7]+)[\0 ]+", field)
    if not found:
        raise Broken(f"{what}: {show(field)} is no octal number")
    return int(found[1], 8)


def string(field, what):
    value, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise Broken(f"{what}: bytes after the end of {show(value)}")
    return text(value)


def untar(data, what, package):
    """The members of a tar in GNU format, strictly."""
    members, offset, long = [], 0, {}
    while True:
        head = data[offset : offset + 512]
        if len(head) < 512:
            raise Broken(f"{what}: truncated at byte {offset}")
        if not any(head):
            break
        where = f"{what}: header at byte {offset}"
        if head[257:265] != b"ustar  \0":
            raise Broken(f"{where}: not GNU format (magic {show(head[257:265])})")
        if number(head[148:156], f"{where}: checksum") != sum(head[:148]) + 256 + sum(head[156:]):
            raise Broken(f"{where}: wrong checksum")
        if head[265:329].strip(b"\0"):
            package.bad(f"{where}: owner by name, not only by number")
        if head[345:].strip(b"\0"):
            package.bad(f"{where}: bytes behind the GNU fields")
        size = number(head[124:136], f"{where}: size")
        content = data[offset + 512 : offset + 512 + size]
        padded = offset + 512 + (size + 511) // 512 * 512
        if padded > len(data):
            raise Broken(f"{where}: its {size} bytes go beyond the end")
        if data[offset + 512 + size : padded].strip(b"\0"):
            package.bad(f"{where}: padding that is not zero")
        offset = padded
        flag = head[156:157]
        if flag in (b"L", b"K"):
            if not 100 <= size <= 4097 or content[-1:] != b"\0" or flag in long:
                raise Broken(f"{where}: bad long name")
            long[flag] = text(content[:-1])
            continue
        name = long.pop(b"L", None) or string(head[:100], where)
        target = long.pop(b"K", None) or string(head[157:257], where)
        kind = KINDS.get(flag, "special")
        if kind != "file" and size:
            package.bad(f"{what}: {show(name)} has {size} bytes, but is a {kind}")
        ids = [number(head[at : at + 8], where) for at in (100, 108, 116)]
        members.append(Member(name, kind, *ids, number(head[136:148], where), target, content))
    if long:
        package.bad(f"{what}: a long name without a member")
    if data[offset:].strip(b"\0") or len(data) - offset < 1024 or len(data) % 512:
        package.bad(f"{what}: does not end in two blocks of zeros, and nothing else")
    common(members, what, package)
    return members


def common(members, what, package):
    """What holds for the members of all three archives."""
    for name, count in collections.Counter(member.name for member in members).items():
        if count > 1:
            package.bad(f"{what}: {show(name)} is there more than once")
    for member in members:
        if (member.uid, member.gid) != (0, 0):
            package.bad(f"{what}: {show(member.name)} belongs to {member.uid}:{member.gid}, not 0:0")
        package.mtimes.add(member.mtime)


def inner(members, what, package):
    """Members of data.tar or control.tar with paths without `./`; bad names are left out."""
    if not members or members[0].name != "./" or members[0].kind != "dir":
        package.bad(f"{what}: does not begin with ./")
    seen, before = {""}, []
    for member in members:
        if member.name == "./":
            continue
        path = member.name.removeprefix("./")
        if member.kind == "dir" and path.endswith("/"):
            path = path[:-1]
        elif member.kind == "dir":
            package.bad(f"{what}: directory {show(member.name)} without a slash at its end")
        problem = "path without ./" if not member.name.startswith("./") else name_problem(path)
        if problem:
            package.bad(f"{what}: {show(member.name)}: {problem}")
            continue
        parts = path.split("/")
        # tar --sort=name sorts within each directory.
        if parts < before:
            package.bad(f"{what}: {show(path)} is not in the order of names")
        before = parts
        if "/".join(parts[:-1]) not in seen:
            package.bad(f"{what}: {show(path)} comes without its directory before it")
        if member.kind == "dir":
            seen.add(path)
        yield path, member


def read_data(members, package):
    for path, member in inner(members, "data.tar", package):
        entry = Entry("/" + path, member.kind, member.mode & 0o7777, "root", "root", len(member.data), member.mtime)
        entry.user = "root" if member.uid == 0 else str(member.uid)
        entry.group = "root" if member.gid == 0 else str(member.gid)
        if member.mode & ~0o7777:
            package.bad(f"data.tar: {show(path)}: mode {member.mode:o} with bits for the file type")
        if member.kind == "file":
            entry.data = member.data
        entry.target = member.target
        if member.kind in ("link", "hardlink") and target_problem(member.target):
            package.bad(f"data.tar: {show(path)}: {target_problem(member.target)}")
        package.entries.append(entry)


def read_control(members, package):
    for path, member in inner(members, "control.tar", package):
        known = path in SCRIPTS or path in ("control", "conffiles")
        if not known or member.kind != "file":
            package.bad(f"control.tar: {show(path)} does not belong there")
            continue
        package.control[path] = member.data
        wanted = 0o755 if path in SCRIPTS else 0o644
        if member.mode != wanted:
            package.bad(f"control.tar: {path} has mode {member.mode:04o}, not {wanted:04o}")
        if path in SCRIPTS:
            package.scripts[path] = member.data
            package.script_modes[path] = member.mode
    if "control" not in package.control:
        raise Broken("control.tar: no control")
    package.meta = fields(text(package.control["control"]), package)
    raw = text(package.control.get("conffiles", b""))
    if raw and not raw.endswith("\n"):
        package.bad("conffiles: no newline at its end")
    package.conffiles = raw.splitlines()


def fields(control, package):
    """The fields of a control file. Only Description may go on in further lines."""
    found, last = {}, None
    if not control.endswith("\n"):
        package.bad("control: no newline at its end")
    for count, line in enumerate(control.split("\n")[:-1] if control.endswith("\n") else control.split("\n"), 1):
        field = re.fullmatch(r"([A-Z][A-Za-z-]*): ?( ?[^ ].*)", line)
        if line.endswith((" ", "\t", "\r")) or not line.isprintable():
            package.bad(f"control: line {count}: blanks at its end, or letters that cannot be printed")
        if field and field[1] not in found:
            last = field[1]
            found[last] = field[2].strip()
            if field[2].startswith(" ") and last != "Description":
                package.bad(f"control: line {count}: two blanks after {last}")
        elif field:
            package.bad(f"control: line {count}: {field[1]} a second time")
        elif last == "Description" and re.fullmatch(r" [^ \t].*", line):
            found[last] += "\n" + line[1:]
        else:
            package.bad(f"control: line {count}: neither a field nor a line of the Description: {show(line)}")
    if last != "Description":
        package.bad("control: Description is not its last field")
    return found

"""What can be wrong with a package: one damage each, and what the reader says of it."""
import struct

import handmade
from handmade import apk, apk_parts, apk_tree, block, container, control_text, data_members, deflated, files, gz, header, ipk, member, rehash, tar


def changed(tree, path, mode=None, content=None, name=None):
    """The tree with one file changed."""
    tree = [list(item) for item in tree]
    item = next(item for item in tree if item[0] == path)
    item[0], item[1], item[2] = name or path, item[1] if mode is None else mode, item[2] if content is None else content
    return tree


def raw_tree(*more, order=None):
    """data.tar with members put as they are."""
    members = data_members(files())
    return tar((order(members) if order else members) + list(more))


def patched(at, value, **changes):
    """An .apk of which one word of the ADB block is another; `at` is a byte offset or finds it."""
    payload, blocks, unique = apk_parts(**changes)
    at = at(payload) if callable(at) else at
    return container(rehash(payload[:at] + struct.pack("<I", value) + payload[at + 4 :], unique), blocks)


def word(payload, at):
    return struct.unpack_from("<I", payload, at)[0]


def root(payload):
    return word(payload, 4) & 0x0FFFFFFF


def slot(*path):
    """Where the tag of a slot lies, by the slots on the way from the root: slot(1, 15) is depends."""
    def find(payload):
        at = root(payload)
        for index in path[:-1]:
            at = word(payload, at + 4 * index) & 0x0FFFFFFF
        return at + 4 * path[-1]
    return find


def repacked(change):
    """A right .apk whose container went through `change`."""
    return lambda: deflated(change(container(*apk_parts()[:2])))


def with_blocks(change):
    payload, blocks, _ = apk_parts()
    return container(payload, change(blocks))


def with_values(payload_change):
    """The ADB block changed, and its hash put right."""
    payload, blocks, unique = apk_parts()
    return container(rehash(payload_change(payload), unique), blocks)


def swap_slots(payload, one, two):
    one, two = one(payload), two(payload)
    left, right = payload[one : one + 4], payload[two : two + 4]
    payload = payload[:one] + right + payload[one + 4 :]
    return payload[:two] + left + payload[two + 4 :]


LINK = dict(flag=b"2", mode=0o777)
# What is damaged: the bytes, and what the reader must say of it.
IPK_DAMAGE = {
    "truncated": (lambda: ipk()[:-700], "truncated"),
    "truncated trailer": (lambda: ipk()[:-3], "truncated gzip trailer"),
    "wrong checksum of gzip": (lambda: ipk()[:-8] + b"abcd" + ipk()[-4:], "wrong gzip checksum"),
    "wrong length of gzip": (lambda: ipk()[:-4] + b"abcd", "gzip trailer says"),
    "gzip with a name": (lambda: ipk(wrap=lambda data: gz(data, 8, 0, b"x\0")), "with a name"),
    "gzip with a time": (lambda: ipk(wrap=lambda data: gz(data, 0, 5)), "gzip header with a time"),
    "bytes after gzip": (lambda: ipk() + b"x", "after the gzip data"),
    "bad deflate": (lambda: ipk()[:10] + b"\xff" * 40 + ipk()[50:], "bad deflate stream"),
    "outer order": (lambda: ipk(outer=lambda three: [three[0], three[2], three[1]]), "outer archive: members"),
    "outer member missing": (lambda: ipk(outer=lambda three: three[:2]), "no ./control.tar.gz"),
    "outer member too much": (lambda: ipk(outer=lambda three: three + [member("./x")]), "outer archive: members"),
    "debian-binary": (lambda: ipk(outer=lambda three: [member("./debian-binary", b"2.1\n")] + three[1:]), "debian-binary"),
    "ustar, not GNU": (lambda: ipk(data=tar([member("./", mode=0o755, flag=b"5", magic=b"ustar\0" + b"00")])), "not GNU format"),
    "header checksum": (lambda: ipk(data=tar([header("./", flag=b"5", checksum=99)])), "wrong checksum"),
    "size beyond the end": (lambda: ipk(data=header("./x", 99999)), "go beyond the end"),
    "no end of the archive": (lambda: ipk(data=b"".join(data_members(files()))), "truncated at byte"),
    "data after the end": (lambda: ipk(data=raw_tree()[:-1] + b"x"), "does not end in two blocks"),
    "owner": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", b"#!/bin/sh\n", mode=0o755, uid=1000))), "belongs to 1000:1000"),
    "owner by name": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", b"#!/bin/sh\n", mode=0o755, owner=b"me"))), "owner by name"),
    "times differ": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", b"#!/bin/sh\n", mode=0o755, mtime=1))), "times differ"),
    "traversal": (lambda: ipk(data=raw_tree(member("./usr/sbin/../../x", b"x"))), "path with a part '..'"),
    "absolute path": (lambda: ipk(data=raw_tree(member("/usr/sbin/demo2", b"x"))), "path without ./"),
    "absolute path after ./": (lambda: ipk(data=raw_tree(member(".//usr/sbin/demo2", b"x"))), "absolute path"),
    "control letters": (lambda: ipk(data=raw_tree(member(b"./usr/sbin/de\x1bmo", b"x"))), "other than printable"),
    "duplicate": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo", b"#!/bin/sh\n", mode=0o755))), "more than once"),
    "order of names": (lambda: ipk(data=raw_tree(order=lambda all: all[:4] + all[6:] + all[4:6])), "not in the order of names"),
    "no directory before": (lambda: ipk(data=raw_tree(member("./usr/share/demo/x", b"x"))), "without its directory"),
    "hard link": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", flag=b"1", target=b"./usr/sbin/demo"))), "neither file, link nor"),
    "device": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", flag=b"3"))), "neither file, link nor"),
    "link that leaves": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", target=b"../../etc/shadow", **LINK))), "points to"),
    "letters of a target": (lambda: ipk(data=raw_tree(member("./usr/sbin/demo2", target=b"a\x07", **LINK))), "a target that is empty"),
    "set-uid": (lambda: ipk(changed(files(), "usr/sbin/demo", 0o4755)), "set-uid"),
    "world-writable": (lambda: ipk(changed(files(), "usr/sbin/demo", 0o777)), "writable by others"),
    "mode of the configuration": (lambda: ipk(changed(files(), "etc/config/demo", 0o644)), "has mode 0644, not 0600"),
    "mode of an init script": (lambda: ipk(changed(files(), "etc/init.d/demo", 0o644)), "has mode 0644, not 0755"),
    "no init script": (lambda: ipk(changed(files(), "etc/init.d/demo", content=b"#!/bin/sh\n")), "no script of rc.common"),
    "outside": (lambda: ipk(data=raw_tree(member("./usr/zzz", b"x"))), "lies outside"),
    "empty directory": (lambda: ipk(data=raw_tree(member("./var/", flag=b"5", mode=0o755))), "empty directory"),
    "Installed-Size": (lambda: ipk(changes={"Installed-Size": "1"}), "Installed-Size '1', but"),
    "Architecture": (lambda: ipk(changes={"Architecture": "x86_64"}), "not in the folder of its architecture"),
    "Version": (lambda: ipk(changes={"Version": "1.2.3"}), "Version '1.2.3' is not of its form"),
    "Version's suffix": (lambda: ipk(changes={"Version": "1.2.3_new-r1"}), "is not of its form"),
    "Package": (lambda: ipk(changes={"Package": "Demo"}), "the package's name 'Demo'"),
    "file name": (lambda: ipk(changes={"Version": "1.2.4-r1"}), "the file is named"),
    "License": (lambda: ipk(changes={"License": "GPL-3.0"}), "no SPDX"),
    "Depends": (lambda: ipk(changes={"Depends": "libc zlib"}), "dependency 'libc zlib'"),
    "Depends twice": (lambda: ipk(changes={"Depends": "libc, libc"}), "depends on 'libc' twice"),
    "unknown field": (lambda: ipk(changes={"Essential": "yes"}), "unknown field 'Essential'"),
    "field missing": (lambda: ipk(changes={"Section": None}), "no field Section"),
    "field twice": (lambda: ipk(control=b"Package: demo\n" + control_text(1)), "a second time"),
    "Description's lines": (lambda: ipk(changes={"Description": "one\ntwo"}), "neither a field nor a line"),
    "SourceDateEpoch": (lambda: ipk(changes={"SourceDateEpoch": "5"}), "are not SourceDateEpoch"),
    "conffile missing": (lambda: ipk(conffiles=b"/etc/config/demo\n/etc/config/other\n"), "is no file of the package"),
    "conffiles unsorted": (lambda: ipk(conffiles=b"/usr/sbin/demo\n/etc/config/demo\n"), "not sorted"),
    "no conffiles": (lambda: ipk(conffiles=b""), "is no conffile"),
    "script not executable": (lambda: ipk(modes={"prerm": 0o644}), "prerm has mode 0644"),
    "script without shebang": (lambda: ipk(scripts=handmade.ipk_scripts() | {"prerm-pkg": b"exit 0\n"}), "does not begin with #!/bin/sh"),
    "script missing": (lambda: ipk(scripts={"prerm": handmade.PRERM + b"default_prerm $0 $@\n"}), "does not call default_postinst"),
    "script unknown": (lambda: ipk(scripts=handmade.ipk_scripts() | {"rm": b"#!/bin/sh\n"}), "does not belong there"),
}
APK_DAMAGE = {
    "truncated stream": (lambda: apk()[:-20], "truncated deflate stream"),
    "truncated container": (repacked(lambda data: data[:-16]), "go beyond the end"),
    "truncated header": (repacked(lambda data: data + b"abc"), "truncated header"),
    "bytes after the stream": (lambda: apk() + b"x", "after the compressed container"),
    "zstd": (lambda: b"ADBc\x02\x03" + apk()[4:], "zstd"),
    "unknown compression": (lambda: b"ADBc\x09\x03" + apk()[4:], "unknown compression"),
    "schema": (repacked(lambda data: data[:4] + b"indx" + data[8:]), "schema 'indx'"),
    "block size beyond": (repacked(lambda data: data[:8] + b"\xff\xff\xff\x3f" + data[12:]), "go beyond the end"),
    "block size too small": (repacked(lambda data: data[:8] + b"\x02\0\0\0" + data[12:]), "smaller than its header"),
    "extended block": (repacked(lambda data: data[:11] + b"\xc0" + data[12:]), "extended block"),
    "misaligned block": (lambda: container(*apk_parts()[:2]) + block(1, bytes(5), pad=b""), "aligned to 8"),
    "padding": (lambda: with_blocks(lambda all: all)[:-1] + b"x", "padding that is not zero"),
    "no ADB block": (lambda: b"ADB.pckg", "no ADB block"),
    "DATA first": (lambda: b"ADB.pckg" + block(2, bytes(12)), "must not come here"),
    "two ADB blocks": (lambda: container(*apk_parts()[:2]) + block(0, apk_parts()[0]), "must not come here"),
    "SIG after DATA": (lambda: container(*apk_parts()[:2]) + block(1, bytes(20)), "must not come here"),
    "bad signature": (lambda: b"ADB.pckg" + block(0, apk_parts()[0]) + block(1, b"\x01" * 40), "no signature of version 0"),
    "version of the block": (lambda: patched(0, 1), "ADB block: version 1.0"),
    "root offset": (lambda: patched(4, 0xEFFFFFFC), "outside of the block"),
    "root is no object": (lambda: patched(4, 0x10000001), "neither array nor object"),
    "unknown type": (lambda: patched(4, 0xF0000001), "unknown type"),
    "offset": (lambda: patched(slot(1, 1), 0x8FFFFFF0), "outside of the block"),
    "offset in the header": (lambda: patched(slot(1, 1), 0x80000002), "outside of the block"),
    "misaligned object": (lambda: with_values(lambda p: p[:4] + struct.pack("<I", word(p, 4) + 1) + p[8:]), "misaligned"),
    "loop": (lambda: with_values(lambda p: p[: root(p) + 4] + p[4:8] + p[root(p) + 8 :]), "a loop"),
    "loop further down": (lambda: with_values(lambda p: p[: (at := slot(2, 2)(p))] + p[4:8] + p[at + 4 :]), "a loop"),
    "empty object": (lambda: patched(root, 1), "slots; the first is the count"),
    "too many slots": (lambda: patched(root, 0x00FFFFFF), "outside of the block"),
    "last slot null": (lambda: patched(slot(3, 7), 0), "last slot is null"),
    "unreferenced bytes": (lambda: with_values(lambda p: p + b"more"), "belong to no value"),
    "overlap": (lambda: with_values(lambda p: p[: (at := slot(1, 2)(p))] + struct.pack("<I", word(p, slot(1, 1)(p)) + 1) + p[at + 4 :]), "verlap"),
    "wrong type": (lambda: patched(slot(1, 12), 0x80000008), "no number"),
    "unique id": (lambda: container(apk_parts()[0].replace(b"Shows", b"Hides"), apk_parts()[1]), "not the hash of the ADB block"),
    "content": (lambda: with_blocks(lambda all: all[:-1] + [all[-1][:-1] + b"x"]), "wrong hash for"),
    "size of a file": (lambda: with_blocks(lambda all: all[:-1] + [all[-1] + b"x"]), "bytes, but"),
    "extra DATA block": (lambda: with_blocks(lambda all: all + [all[-1]]), "no further one must come here"),
    "DATA block missing": (lambda: with_blocks(lambda all: all[:-1]), "has no DATA block"),
    "order of DATA blocks": (lambda: with_blocks(lambda all: all[::-1]), "must come here"),
    "0-based index": (lambda: with_blocks(lambda all: [b"\0" * 4 + all[0][4:]] + all[1:]), "must come here"),
    "paths unsorted": (lambda: with_values(lambda p: swap_slots(p, slot(2, 3), slot(2, 10))), "is not in order"),
    "files unsorted": (lambda: apk(tree=sorted(apk_tree(), reverse=True), sort=False), "is not in order"),
    "depends unsorted": (lambda: apk(depends=("zlib>=1.2", "libc")), "depends: 'libc' is not in order"),
    "depends twice": (lambda: apk(depends=("libc", "libc")), "depends on 'libc' twice"),
    "traversal": (lambda: apk(tree=apk_tree() + [["..", 0o755, None], ["../x", 0o644, b"x"]]), "path with a part '..'"),
    "traversal in a name": (lambda: apk(tree=apk_tree() + [["usr/share", 0o755, None], ["usr/share/..", 0o644, b"x"]]), "is not the name of a file"),
    "absolute path": (lambda: apk(tree=apk_tree() + [["/x", 0o755, None], ["/x/y", 0o644, b"x"]]), "absolute path"),
    "duplicate": (lambda: apk(tree=apk_tree() + [["usr/sbin/demo", 0o755, b"#!"]]), "more than once"),
    "owner": (lambda: apk(user="nobody"), "belongs to 'nobody'"),
    "set-uid": (lambda: apk(tree=changed(apk_tree(), "usr/sbin/demo", 0o4755)), "set-uid"),
    "world-writable": (lambda: apk(tree=changed(apk_tree(), "usr/sbin/demo", 0o757)), "writable by others"),
    "mode beyond 7777": (lambda: apk(tree=changed(apk_tree(), "usr/sbin/demo", 0o100755)), "beyond 7777"),
    "mode of the configuration": (lambda: apk(tree=changed(apk_tree(), "etc/config/demo", 0o644)), "has mode 0644, not 0600"),
    "installed-size": (lambda: apk(size=12345), "installed-size 12345"),
    "arch": (lambda: apk(info={5: "x86_64"}), "not in the folder of its architecture"),
    "version": (lambda: apk(info={2: "1.2.3"}), "version '1.2.3' is not of its form"),
    "name": (lambda: apk(info={1: "demo2"}), "the file is named"),
    "license": (lambda: apk(info={6: "GPLv3"}), "no SPDX"),
    "description of lines": (lambda: apk(info={4: "a\nb"}), "description of several lines"),
    "list": (lambda: apk(tree=changed(apk_tree(), "lib/apk/packages/demo.list", content=b"/etc/config/demo\n")), "not the sorted list"),
    "no list": (lambda: apk(tree=[item for item in apk_tree() if not item[0].endswith(".list")]), "no /lib/apk/packages/demo.list"),
    "conffiles_static": (lambda: apk(tree=changed(apk_tree(), "lib/apk/packages/demo.conffiles_static", content=b"/etc/config/demo 00\n")), "conffiles_static"),
    "no conffiles": (lambda: apk(tree=changed(apk_tree(), "lib/apk/packages/demo.conffiles", content=b"/etc/demo/\n")), "is no conffile"),
    "script missing": (lambda: apk(scripts={3: handmade.apk_scripts()[3]}), "does not call default_prerm"),
    "no upgrade": (lambda: apk(scripts=handmade.apk_scripts() | {7: handmade.apk_scripts()[3]}), "does not say that it is an upgrade"),
    "large number for little": (lambda: with_values(lambda p: p[: (at := slot(1, 12)(p))] + struct.pack("<I", 0x20000000 | len(p)) + p[at + 4 :] + struct.pack("<I", 690)), "larger form"),
}

#!/usr/bin/env python3
"""The reader's own tests: right packages have no problem, every damage is found
and named, hostile bytes never bring the reader down, and packages that real tar
writes read the same as those built here. Run: tests/packages/test_read.py"""
import gzip
import io
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import handmade
import read
import rules
from damage import APK_DAMAGE, IPK_DAMAGE, changed
from handmade import Writer, apk, apk_parts, apk_tree, container, control_text, data_members, deflated, files, gz, ipk, rehash, tar
from model import Broken, line

IPK, APK = "out/mips_24kc/demo_1.2.3-r1_mips_24kc.ipk", "out/mips_24kc/demo-1.2.3-r1.apk"
SEED, MUTATIONS = 20261122, int(os.environ.get("MUTATIONS", "3000"))


def problems(raw, file):
    try:
        return rules.check(read.parse(raw, file))
    except Broken as error:
        return error.problems


class Right(unittest.TestCase):
    def test_right_packages_have_no_problem(self):
        self.assertEqual(problems(ipk(), IPK), [])
        self.assertEqual(problems(apk(), APK), [])
        self.assertEqual(problems(container(*apk_parts()[:2]), APK), [])

    def test_they_are_the_same(self):
        self.assertEqual(rules.same(read.parse(ipk(), IPK), read.parse(apk(), APK)), [])

    def test_what_differs_is_said(self):
        other = apk(tree=apk_tree(changed(files(), "usr/sbin/demo", 0o700, b"#!/bin/sh\n")), depends=("libc",), info={4: "Else."})
        found = "\n".join(rules.same(read.parse(ipk(), IPK), read.parse(other, APK)))
        for part in ("'/usr/sbin/demo': mode differs", "'/usr/sbin/demo': data differs", "Depends differs", "Description differs"):
            self.assertIn(part, found)
        body = handmade.apk_scripts()
        other = apk(scripts=body | {4: body[4] + b"echo more\n"}, tree=apk_tree(files()[:-1]))
        found = "\n".join(rules.same(read.parse(ipk(), IPK), read.parse(other, APK)))
        self.assertIn("script prerm-pkg and pre-deinstall differs", found)
        self.assertIn("'/usr/sbin/demo' is only in the ipk", found)

    def test_all_kinds_of_values(self):
        large = changed(files(), "usr/sbin/demo", content=b"#!/bin/sh\n" + b"x" * 70000)
        scripts = handmade.apk_scripts()
        scripts[3] += b"# " + b"x" * 70000 + b"\n"
        self.assertEqual(problems(apk(tree=apk_tree(large), scripts=scripts), APK), [])
        writer = Writer()
        self.assertEqual([writer.number(7) >> 28, writer.number(1 << 28) >> 28, writer.number(1 << 40) >> 28], [1, 2, 3])

    def test_what_tar_and_gzip_write(self):
        """An .ipk by the commands of ipkg-build reads as the one built here."""
        with tempfile.TemporaryDirectory() as folder:
            for name, tree in (("data", [(path, mode, content) for path, mode, content in files()]), ("control", [])):
                os.mkdir(f"{folder}/{name}")
                os.chmod(f"{folder}/{name}", 0o755)
                for path, mode, content in tree:
                    self.put(f"{folder}/{name}/{path}", mode, content)
            for name, script in handmade.ipk_scripts().items():
                self.put(f"{folder}/control/{name}", 0o755, script)
            self.put(f"{folder}/control/conffiles", 0o644, b"/etc/config/demo\n")
            self.run_tar(folder, "data", ".")
            with gzip.open(f"{folder}/data.tar.gz") as data:
                self.put(f"{folder}/control/control", 0o644, control_text(len(data.read())))
            self.run_tar(folder, "control", ".")
            self.put(f"{folder}/debian-binary", 0o644, b"2.0\n")
            self.run_tar(folder, ".", "./debian-binary", "./data.tar.gz", "./control.tar.gz")
            with open(f"{folder}/..tar.gz", "rb") as file:
                raw = file.read()
        self.assertEqual(problems(raw, IPK), [])
        one, two = read.parse(raw, IPK), read.parse(ipk(), IPK)
        self.assertEqual(one.describe(), two.describe())

    def put(self, path, mode, content):
        if content is None:
            os.mkdir(path)
        else:
            with open(path, "wb") as file:
                file.write(content)
        os.chmod(path, mode)

    def run_tar(self, folder, name, *members):
        tar_command = ["tar", "--format=gnu", "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-cpf", "-", f"--mtime=@{handmade.TIME}"]
        packed = subprocess.run(tar_command + list(members), cwd=f"{folder}/{name}", check=True, capture_output=True)
        packed = subprocess.run(["gzip", "-n"], input=packed.stdout, check=True, capture_output=True)
        self.put(f"{folder}/{name}.tar.gz", 0o644, packed.stdout)

    def test_what_tarfile_writes(self):
        """Python's tarfile, GNU format: names too long for a header, and links."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
            long = "./usr/share/demo/" + "n" * 150
            for name, kind in (("./", "5"), ("./usr/", "5"), ("./usr/share/", "5"), ("./usr/share/demo/", "5"), ("./usr/share/demo/a", "2"), (long, "0")):
                item = tarfile.TarInfo(name.rstrip("/") + "/" * (kind == "5"))
                item.type, item.mode, item.mtime = kind.encode(), 0o755 if kind == "5" else 0o644, handmade.TIME
                item.linkname, item.size = "n" * 150 if kind == "2" else "", 3 if kind == "0" else 0
                archive.addfile(item, io.BytesIO(b"abc"))
        package = read.parse(ipk(data=stream.getvalue()), IPK)
        self.assertEqual(package.problems, [])
        self.assertEqual([entry.path[1:] for entry in package.entries][-1], long[2:])
        self.assertEqual(package.find("/usr/share/demo/a").target, "n" * 150)


class Damage(unittest.TestCase):
    def test_ipk(self):
        self.check(IPK_DAMAGE, IPK)

    def test_apk(self):
        self.check(APK_DAMAGE, APK)

    def check(self, damages, file):
        for name, (build, expected) in damages.items():
            with self.subTest(name):
                raw = build()
                self.assertIn(expected, "\n".join(problems(raw, file)))

    def test_a_bomb(self):
        self.assertIn("unpacks to more than", problems(gz(bytes(65 << 20)), IPK)[0])
        self.assertIn("unpacks to more than", problems(deflated(bytes(65 << 20)), APK)[0])

    def test_depth(self):
        """Objects in objects, and one object in many slots, end soon."""
        writer = Writer()
        tag = writer.number(1)
        for _ in range(50):
            tag = writer.slots(*[tag] * 50)
        payload = bytearray(writer.buffer)
        struct.pack_into("<I", payload, 4, tag)
        self.assertIn("nested deeper", problems(container(bytes(payload), []), APK)[0])

    def test_nothing_is_extracted_from_a_damaged_one(self):
        for raw, file in ((IPK_DAMAGE["traversal"][0](), IPK), (APK_DAMAGE["traversal"][0](), APK)):
            with tempfile.TemporaryDirectory() as folder, self.assertRaises(Broken):
                read.extract(read.parse(raw, file), f"{folder}/x")
            self.assertFalse(os.path.exists(f"{folder}/x"))

    def test_extract(self):
        for raw, file in ((ipk(), IPK), (apk(), APK)):
            with tempfile.TemporaryDirectory() as folder:
                read.extract(read.parse(raw, file), f"{folder}/x")
                self.assertEqual(os.stat(f"{folder}/x/files/etc/config/demo").st_mode & 0o7777, 0o600)
                with open(f"{folder}/x/files/usr/sbin/demo", "rb") as content:
                    self.assertEqual(content.read(), files()[-1][2])
                self.assertTrue(os.access(f"{folder}/x/scripts/{'prerm' if file == IPK else 'pre-deinstall'}", os.X_OK))


class Hostile(unittest.TestCase):
    """Bytes changed at random: the reader says something or nothing, and never falls over."""

    def mutate(self, chance, raw):
        raw = bytearray(raw)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            match chance.randrange(6):
                case 0:
                    raw[at] ^= 1 << chance.randrange(8)
                case 1:
                    raw[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, 0xE0, 0x2F, 0x2E])
                case 2:
                    del raw[at : at + chance.randint(1, 40)]
                case 3:
                    raw[at:at] = chance.randbytes(chance.randint(1, 40))
                case 4:
                    at -= at % 4
                    raw[at : at + 4] = struct.pack("<I", chance.choice([0, 1, 2, 0xFFFFFFFF, chance.randrange(1 << 32), 0xE0000000 | chance.randrange(4000), 0x80000000 | chance.randrange(4000)]))
                case 5:
                    start = chance.randrange(len(raw))
                    raw[at : at + 16] = raw[start : start + 16]
            if not raw:
                raw = bytearray(b"x")
        return bytes(raw)

    def survive(self, raw, file):
        try:
            package = read.parse(raw, file)
            found = rules.check(package)
            self.assertFalse([problem for problem in found if not line(problem).isprintable() or not line(problem).isascii()])
            rules.same(package, package) if package.format == "ipk" else rules.same(self.other, package)
            package.describe()
        except Broken:
            return 1
        return 0

    def test_mutations(self):
        chance, broken = random.Random(SEED), 0
        self.other = read.parse(ipk(), IPK)
        payload, blocks, unique = apk_parts()
        plain = container(payload, blocks)
        data, control = tar(data_members(files())), control_text(10240)
        builds = [
            lambda: (self.mutate(chance, ipk()), IPK),
            lambda: (ipk(data=self.mutate(chance, data)), IPK),
            lambda: (ipk(control=self.mutate(chance, control), conffiles=self.mutate(chance, b"/etc/config/demo\n")), IPK),
            lambda: (self.mutate(chance, deflated(plain)), APK),
            lambda: (self.mutate(chance, plain), APK),
            lambda: (deflated(container(rehash(self.mutate(chance, payload).ljust(unique + 21, b"x"), unique), blocks)), APK),
        ]
        for count in range(MUTATIONS):
            raw, file = builds[count % len(builds)]()
            with self.subTest(count=count):
                broken += self.survive(raw, file)
        self.assertGreater(broken, MUTATIONS // 4)
        self.assertLess(broken, MUTATIONS)

    def test_short_and_foreign_files(self):
        for raw in (b"", b"\x1f", b"\x1f\x8b", b"ADB", b"ADB.", b"ADBd", b"ADBc", b"ADBc\x02", b"!<arch>\n", b"PK\x03\x04", b"\x1f\x8b" + b"\0" * 16):
            self.assertEqual(len(problems(raw, IPK)), 1)

    def test_command(self):
        """A bad file gets an error line and status 1, not a traceback."""
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/x.apk", "wb") as file:
                file.write(b"ADBd" + b"\xff" * 20)
            for verb in (["list"], ["check"], ["extract"]):
                more = [f"{folder}/out"] if verb == ["extract"] else []
                ran = subprocess.run([sys.executable, read.__file__, *verb, f"{folder}/x.apk", *more], capture_output=True, text=True)
                self.assertEqual((ran.returncode, "Traceback" in ran.stderr), (1, False))
                self.assertEqual(len((ran.stdout + ran.stderr).splitlines()), 1)


if __name__ == "__main__":
    unittest.main()

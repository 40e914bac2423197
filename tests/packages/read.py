#!/usr/bin/env python3
"""Reads and checks OpenWrt packages, .ipk and .apk (version 3), strictly and
without any code of those who write them.

read.py list FILE            what is in it, as JSON
read.py check FILE...        says all that is wrong; status 1 if anything is
read.py extract FILE DIR     DIR/files, DIR/scripts, DIR/control and DIR/info.json
read.py same IPK APK         says where they differ

With `check --any-folder` a package need not lie in the folder of its
architecture. Signatures of an .apk are listed and not verified; zstd is not
read. Files are only extracted from a package whose format is right.
"""
import json
import os
import sys

sys.dont_write_bytecode = True
import apk
import ipk
import rules
from model import Broken, Package, line


def read(file):
    """The package in a file; Broken if it cannot be read."""
    with open(file, "rb") as stream:
        raw = stream.read()
    return parse(raw, file)


def parse(raw, file):
    package = Package("ipk" if raw[:2] == b"\x1f\x8b" else "apk", file)
    try:
        (ipk if package.format == "ipk" else apk).read(raw, package)
    except Broken as error:
        error.problems = [*package.problems, str(error)]
        raise
    return package


def problems(file, folder=True):
    """All that is wrong with a file, as lines."""
    try:
        return rules.check(read(file), folder)
    except Broken as error:
        return error.problems


def check(files, folder):
    failed = False
    for file in files:
        found = problems(file, folder)
        for problem in found:
            print(f"{file}: {line(problem)}")
        failed = failed or bool(found)
    return 1 if failed else 0


def extract(package, folder):
    if package.problems:
        raise Broken("; ".join(package.problems))
    if os.path.lexists(folder) and os.listdir(folder):
        raise Broken(f"{folder} is not empty")
    os.makedirs(f"{folder}/files", exist_ok=True)
    dirs, links = [], []
    for entry in package.entries:
        path = f"{folder}/files{entry.path}"
        if entry.kind == "dir":
            os.makedirs(path, exist_ok=True)
            dirs.append((path, entry.mode))
        elif entry.kind == "link":
            links.append((entry.target, path))
        elif entry.kind == "file":
            put(path, entry.data, entry.mode)
            os.utime(path, (entry.mtime, entry.mtime))
        else:
            raise Broken(f"{entry.path} is neither file, link nor directory")
    # Last, so that nothing is written through them.
    for target, path in links:
        os.symlink(target, path)
    for path, mode in reversed(dirs):
        os.chmod(path, mode)
    for kind, parts in (("scripts", package.scripts), ("control", package.control)):
        for name, data in parts.items():
            put(f"{folder}/{kind}/{name}", data, 0o755 if kind == "scripts" else 0o644)
    put(f"{folder}/info.json", (json.dumps(package.describe(), indent=1) + "\n").encode(), 0o644)


def put(path, data, mode):
    """Writes a file that must not be there yet, through no link."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(data)
    os.chmod(path, mode)


def main(arguments):
    verb, *files = arguments or ["help"]
    folder = "--any-folder" not in files
    files = [file for file in files if file != "--any-folder"]
    try:
        if verb == "list" and len(files) == 1:
            print(json.dumps(read(files[0]).describe(), indent=1))
        elif verb == "check" and files:
            return check(files, folder)
        elif verb == "extract" and len(files) == 2:
            extract(read(files[0]), files[1])
        elif verb == "same" and len(files) == 2:
            pair = sorted((read(file) for file in files), key=lambda package: package.format, reverse=True)
            if [package.format for package in pair] != ["ipk", "apk"]:
                raise Broken("same takes an .ipk and an .apk")
            found = rules.same(*pair)
            print("".join(f"{line(problem)}\n" for problem in found), end="")
            return 1 if found else 0
        else:
            print(__doc__, end="", file=sys.stderr)
            return 2
    except (Broken, OSError) as error:
        print(f"read.py: {files[0]}: {line(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

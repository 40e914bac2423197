# What both package formats have in common: a package as a value, and how the
# reader says what is wrong with it.
import dataclasses
import hashlib
import zlib

# A router's flash is smaller; whatever unpacks to more is refused unread.
MAX_UNPACKED = 64 << 20


class Broken(Exception):
    """The file cannot be read any further. `problems` is all that was found until then, and this."""

    problems = ()


@dataclasses.dataclass
class Entry:
    """A file, link or directory. `path` is absolute, without a slash at its end."""

    path: str
    kind: str  # "file", "link", "dir", "hardlink" or "special"
    mode: int  # without the file type
    user: str  # "root" or a number, as a string
    group: str
    size: int = 0
    mtime: int | None = None  # .apk has none for directories
    target: str = ""
    data: bytes = b""

    def describe(self):
        """As JSON shows it: without the content."""
        shown = {"path": self.path, "kind": self.kind, "mode": f"{self.mode:04o}"}
        shown |= {"user": self.user, "group": self.group}
        if self.mtime is not None:
            shown["mtime"] = self.mtime
        if self.kind == "file":
            shown |= {"size": self.size, "sha256": hashlib.sha256(self.data).hexdigest()}
        if self.target:
            shown["target"] = self.target
        return shown


@dataclasses.dataclass
class Package:
    format: str  # "ipk" or "apk"
    file: str  # the path it was read from
    meta: dict = dataclasses.field(default_factory=dict)  # fields by the names that the format gives them
    entries: list = dataclasses.field(default_factory=list)  # of Entry, in the order of the file
    scripts: dict = dataclasses.field(default_factory=dict)  # content by name
    script_modes: dict = dataclasses.field(default_factory=dict)  # .ipk only
    conffiles: list = dataclasses.field(default_factory=list)  # paths that are files of the package
    control: dict = dataclasses.field(default_factory=dict)  # .ipk only: raw members of control.tar.gz
    mtimes: set = dataclasses.field(default_factory=set)  # of every member, archives included
    signatures: list = dataclasses.field(default_factory=list)  # .apk only
    problems: list = dataclasses.field(default_factory=list)  # what is wrong with the format

    def bad(self, problem):
        # Nobody reads more of them; a hostile file may have one per byte.
        if len(self.problems) < 500 and problem not in self.problems:
            self.problems.append(problem)

    def find(self, path):
        """The entry of that path, or None."""
        return next((entry for entry in self.entries if entry.path == path), None)

    @property
    def name(self):
        return self.meta.get("Package" if self.format == "ipk" else "name", "")

    def describe(self):
        return {
            "format": self.format,
            "meta": self.meta,
            "conffiles": self.conffiles,
            "scripts": {name: text(script) for name, script in self.scripts.items()},
            "signatures": self.signatures,
            "entries": [entry.describe() for entry in self.entries],
        }


def text(raw):
    """Bytes as text that can always be printed."""
    return raw.decode("utf-8", "backslashreplace")


def show(value):
    """A string or bytes of a hostile file, in one line of ASCII."""
    shown = ascii(text(value) if isinstance(value, bytes) else value)
    return shown if len(shown) <= 120 else shown[:100] + "...'"


def line(problem):
    """A problem as one line of printable ASCII, whatever a hostile name put into it."""
    return ascii(problem)[1:-1].replace("\\'", "'")[:400]


def target_problem(target):
    """Why a link's target must not be used, or None. Where it leads to is for the rules."""
    if not target or any(not 0x21 <= ord(letter) <= 0x7E for letter in target):
        return "a target that is empty or has letters other than printable ASCII"
    return None


def inflate(raw, what):
    """One raw deflate stream, and what follows it."""
    stream = zlib.decompressobj(-15)
    try:
        data = stream.decompress(raw, MAX_UNPACKED)
    except zlib.error as error:
        raise Broken(f"{what}: bad deflate stream: {error}") from None
    if stream.unconsumed_tail:
        raise Broken(f"{what}: unpacks to more than {MAX_UNPACKED} bytes")
    if not stream.eof:
        raise Broken(f"{what}: truncated deflate stream")
    return data, stream.unused_data


def name_problem(path):
    """Why a path from a package must not be used, or None. The path is without its leading slash."""
    if path == "":
        return "empty path"
    if any(not 0x21 <= ord(letter) <= 0x7E for letter in path):
        return "path with letters other than printable ASCII"
    if path.startswith("/"):
        return "absolute path"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"path with a part {show(part)}"
    return None

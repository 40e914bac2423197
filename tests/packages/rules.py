# What a package of ours must be beyond being well-formed: metadata, places,
# modes, scripts, conffiles; and that both formats hold the same.
import collections
import hashlib
import os
import re

from ipk import SCRIPTS as IPK_SCRIPTS
from model import show, text

# Where files may lie; @ stands for the package's name.
PLACES = """/etc/config/@ /etc/init.d/@* /etc/uci-defaults/*@* /etc/hotplug.d/*/*@* /etc/udhcpc.user.d/*@*
    /etc/capabilities/@* /etc/@/** /lib/upgrade/keep.d/@ /usr/sbin/@* /usr/libexec/rpcd/*@* /usr/share/@/**
    /usr/share/rpcd/*/*@* /usr/share/nftables.d/*/*@* /usr/share/luci/menu.d/*@* /www/luci-static/resources/**""".split()
APK_OWN = ["list", "conffiles", "conffiles_static"]
APK_PLACES = [f"/lib/apk/packages/@.{kind}" for kind in APK_OWN + ["rusers", "alternatives"]]
NAME = r"[a-z0-9][a-z0-9.+-]*"
NUMBER = r"[0-9]+(\.[0-9]+)*[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*(~[0-9a-f]+)?"
VERSION = NUMBER + r"-r[0-9]+"
ARCHITECTURE = r"[a-z0-9][a-z0-9_.+-]*"
DEPENDENCY = rf"({NAME})( \((>=|<=|=|<<|>>) {NUMBER}(-r[0-9]+)?\))?"
APK_DEPENDENCY = rf"!?({NAME})((>=|<=|=|<|>|~|<~|>~){NUMBER}(-r[0-9]+)?)?"
LICENSE = r"[A-Za-z][A-Za-z0-9.-]*[0-9A-Za-z](\+)?"
LICENSES = rf"{LICENSE}( (AND|OR|WITH) {LICENSE})*"
# Names that SPDX gave up, or that never were its.
OLD_LICENSES = ["GPL-2.0", "GPL-3.0", "GPL-2.0+", "GPL-3.0+", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0", "GPLv2", "GPLv3", "BSD"]
IPK_REQUIRED = "Package Version License Section Architecture Installed-Size Description".split()
IPK_KNOWN = IPK_REQUIRED + """Depends Conflicts Provides Alternatives Source SourceName LicenseFiles Require-User
    SourceDateEpoch URL CPE-ID ABIVersion Maintainer""".split()
APK_REQUIRED = "name version hashes description arch license installed-size".split()
RC_COMMON = b"#!/bin/sh /etc/rc.common\n"


def check(package, folder=True):
    """All that is wrong with a package, as lines. `folder`: it must lie in its architecture's."""
    bad = []
    check_meta(package, bad.append)
    check_file(package, folder, bad.append)
    paths = {entry.path for entry in package.entries}
    filled = {os.path.dirname(path) for path in paths}
    for entry in package.entries:
        check_entry(package, entry, paths, filled, bad.append)
    if len(package.mtimes) > 1:
        bad.append(f"times differ: {sorted(package.mtimes)[:5]}")
    check_scripts(package, bad.append)
    check_conffiles(package, bad.append)
    if package.format == "apk":
        check_lists(package, bad.append)
    return package.problems + bad


def check_meta(package, bad):
    ipk, meta = package.format == "ipk", package.meta
    for field in IPK_REQUIRED if ipk else APK_REQUIRED:
        if field not in meta:
            bad(f"no field {field}")
    for field in meta:
        if ipk and field not in IPK_KNOWN:
            bad(f"unknown field {show(field)}")
    version, arch = ("Version", "Architecture") if ipk else ("version", "arch")
    for field, grammar in ((version, VERSION), (arch, ARCHITECTURE), ("Section", "[a-z][a-z0-9-]*"), ("SourceDateEpoch", "[0-9]+")):
        if field in meta and not re.fullmatch(grammar, meta[field]):
            bad(f"{field} {show(meta[field])} is not of its form")
    if not re.fullmatch(NAME, package.name):
        bad(f"the package's name {show(package.name)} is not of its form")
    terms = meta.get("License" if ipk else "license", "")
    if not re.fullmatch(LICENSES, terms) or any(term in OLD_LICENSES for term in terms.split()):
        bad(f"license {show(terms)} is no SPDX expression")
    if not ipk and "\n" in meta.get("description", ""):
        bad("description of several lines")
    if ipk and "SourceDateEpoch" in meta and {str(time) for time in package.mtimes} - {meta["SourceDateEpoch"]}:
        bad(f"times {sorted(package.mtimes)[:5]} are not SourceDateEpoch {show(meta['SourceDateEpoch'])}")
    if not ipk and {"file-size", "repo-commit", "layer", "install-if", "recommends"} & set(meta):
        bad("fields that only an index or another system's packages have")
    depends = meta.get("Depends", "").split(", ") if ipk and "Depends" in meta else meta.get("depends", [])
    names = []
    for item in depends:
        found = re.fullmatch(DEPENDENCY if ipk else APK_DEPENDENCY, item)
        names.append(found[1] if found else item)
        if not found:
            bad(f"dependency {show(item)} is not of its form")
    for name, count in collections.Counter(names).items():
        if count > 1:
            bad(f"depends on {show(name)} twice")


def check_file(package, folder, bad):
    meta, file = package.meta, os.path.basename(package.file)
    if package.format == "ipk":
        arch, wanted = meta.get("Architecture"), f"{package.name}_{meta.get('Version')}_{meta.get('Architecture')}.ipk"
    else:
        arch, wanted = meta.get("arch"), f"{package.name}-{meta.get('version')}.apk"
    if file != wanted:
        bad(f"the file is named {show(file)}, not {show(wanted)}")
    # A feed's folder may lie between: ARCHITECTURE/packages/FILE.
    above = os.path.abspath(package.file).split("/")[-3:-1]
    if folder and arch not in ("all", "noarch") and arch not in above:
        bad(f"lies in {show('/'.join(above))}, not in the folder of its architecture {show(arch or '')}")


def matches(path, pattern, name):
    parts = re.split(r"(\*\*|\*|@)", pattern)
    form = {"**": ".+", "*": "[^/]*", "@": re.escape(name)}
    return re.fullmatch("".join(form.get(part, re.escape(part)) for part in parts), path)


def check_entry(package, entry, paths, filled, bad):
    places = PLACES + (APK_PLACES if package.format == "apk" else [])
    shown = show(entry.path)
    if entry.user != "root" or entry.group != "root":
        bad(f"{shown} belongs to {show(entry.user)}:{show(entry.group)}, not root:root")
    if entry.mode & 0o7000:
        bad(f"{shown} has mode {entry.mode:04o}: set-uid, set-gid or sticky")
    if entry.kind != "link" and entry.mode & 0o022:
        bad(f"{shown} has mode {entry.mode:04o}: writable by others than its owner")
    if entry.kind in ("hardlink", "special"):
        bad(f"{shown} is neither file, link nor directory")
    if entry.kind == "dir":
        if entry.mode not in (0o755, 0o700):
            bad(f"directory {shown} has mode {entry.mode:04o}")
        if entry.path not in filled:
            bad(f"{shown} is an empty directory")
        return
    if not any(matches(entry.path, place, package.name) for place in places):
        bad(f"{shown} lies outside of the folders for it")
    if entry.kind == "link":
        ends = os.path.normpath(os.path.join(os.path.dirname(entry.path), entry.target))
        if not entry.target or ends not in paths:
            bad(f"link {shown} points to {show(entry.target)}, which is not in the package")
    if entry.kind == "file":
        check_mode(entry, bad)


def check_mode(entry, bad):
    executable = entry.path.startswith(("/etc/init.d/", "/usr/sbin/", "/usr/libexec/"))
    wanted = {0o755} if executable else {0o644, 0o755} if entry.path.startswith("/usr/share/") else {0o644}
    if entry.path.startswith("/etc/config/"):
        wanted = {0o600}
    if entry.mode not in wanted:
        bad(f"{show(entry.path)} has mode {entry.mode:04o}, not {' or '.join(f'{mode:04o}' for mode in sorted(wanted))}")
    if entry.path.startswith("/etc/init.d/") and not entry.data.startswith(RC_COMMON):
        bad(f"{show(entry.path)} is no script of rc.common")
    if entry.mode & 0o111 and not entry.data.startswith((b"#!", b"\x7fELF")):
        bad(f"{show(entry.path)} is executable, but neither script nor program")


def check_scripts(package, bad):
    ipk = package.format == "ipk"
    wanted = {"postinst": "default_postinst", "prerm": "default_prerm"} if ipk else {
        "post-install": "default_postinst", "post-upgrade": "default_postinst", "pre-deinstall": "default_prerm"}
    for name, call in wanted.items():
        if call not in text(package.scripts.get(name, b"")):
            bad(f"script {name} does not call {call}")
    for name, script in package.scripts.items():
        if not re.match(rb"#! ?/bin/sh\n", script):
            bad(f"script {name} does not begin with #!/bin/sh")
        if b"\r" in script or b"\0" in script or not script.endswith(b"\n"):
            bad(f"script {name} is no text of whole lines")
    if not ipk:
        for name in ("post-upgrade", "pre-upgrade"):
            if name in package.scripts and b"\nexport PKG_UPGRADE=1\n" not in package.scripts[name]:
                bad(f"script {name} does not say that it is an upgrade")
        for name in wanted:
            if f'export pkgname="{package.name}"' not in text(package.scripts.get(name, b"")):
                bad(f"script {name} does not say the package's name")


def check_conffiles(package, bad):
    files = {entry.path for entry in package.entries if entry.kind == "file"}
    if package.format == "ipk":
        if package.conffiles != sorted(set(package.conffiles), key=os.fsencode):
            bad("conffiles are not sorted, or not unique")
        for path in package.conffiles:
            if path not in files:
                bad(f"conffile {show(path)} is no file of the package")
    for path in sorted(files):
        if path.startswith("/etc/config/") and path not in package.conffiles:
            bad(f"{show(path)} is no conffile")


def check_lists(package, bad):
    """/lib/apk/packages: default_postinst finds there which init scripts to enable."""
    own = {f"/lib/apk/packages/{package.name}.{kind}" for kind in APK_OWN}
    lists = {kind: package.find(f"/lib/apk/packages/{package.name}.{kind}") for kind in APK_OWN}
    paths = sorted((e.path for e in package.entries if e.kind in ("file", "link") and e.path not in own), key=os.fsencode)
    if not lists["list"]:
        bad(f"no /lib/apk/packages/{package.name}.list")
    elif text(lists["list"].data) != "".join(f"{path}\n" for path in paths):
        listed = set(text(lists["list"].data).splitlines())
        bad(f"{package.name}.list is not the sorted list of the files: missing {sorted(set(paths) - listed)[:3]}, extra {sorted(listed - set(paths))[:3]}")
    conffiles = text(lists["conffiles"].data) if lists["conffiles"] else ""
    for line in conffiles.splitlines():
        if not re.fullmatch(r"/\S+", line):
            bad(f"{package.name}.conffiles: {show(line)} is no path")
    static = ""
    for path in package.conffiles:
        static += f"{path} {hashlib.sha256(package.find(path).data).hexdigest()}\n"
    if static != (text(lists["conffiles_static"].data) if lists["conffiles_static"] else ""):
        bad(f"{package.name}.conffiles_static does not list the conffiles with their SHA-256")


def same(ipk, apk):
    """Where an .ipk and an .apk differ, apart from what each format has of its own."""
    bad = []
    own = (f"/lib/apk/packages/{apk.name}.", "/lib/apk/packages/")
    mine = {entry.path: entry for entry in ipk.entries}
    other = {e.path: e for e in apk.entries if not e.path.startswith(own) and not (e.path in ("/lib/apk", "/lib/apk/packages") and e.path not in mine)}
    if "/lib" in other and "/lib" not in mine and not any(path.startswith("/lib/") for path in other):
        del other["/lib"]
    for path in sorted(mine.keys() | other.keys()):
        if path not in mine or path not in other:
            bad.append(f"{show(path)} is only in the {'apk' if path in other else 'ipk'}")
            continue
        for field in ("kind", "mode", "user", "group", "target", "mtime", "data"):
            left, right = getattr(mine[path], field), getattr(other[path], field)
            if left != right and not (field == "mtime" and mine[path].kind == "dir") and not (field == "mode" and mine[path].kind == "link"):
                bad.append(f"{show(path)}: {field} differs" + ("" if field == "data" else f": {show(str(left))}, {show(str(right))}"))
    for left, right, what in pairs(ipk, apk):
        if left != right:
            bad.append(f"{what} differs: {show(str(left))}, {show(str(right))}")
    return bad


def pairs(ipk, apk):
    one, two = ipk.meta, apk.meta
    def words(value):
        return " ".join(value.split())
    yield one.get("Package"), two.get("name"), "name"
    yield one.get("Version"), two.get("version"), "version"
    yield one.get("Architecture", "").replace("all", "noarch") if one.get("Architecture") == "all" else one.get("Architecture"), two.get("arch"), "architecture"
    for left, right in (("License", "license"), ("URL", "url"), ("Maintainer", "maintainer"), ("Source", "origin")):
        yield one.get(left), two.get(right), left
    yield words(one.get("Description", "")), words(two.get("description", "")), "Description"
    depends = [re.sub(r"[ ()]", "", item) for item in one.get("Depends", "").split(", ") if item]
    yield sorted(depends), sorted(two.get("depends", [])), "Depends"
    yield ipk.conffiles, apk.conffiles, "conffiles"
    bodies = {"preinst": ["pre-install", "pre-upgrade"], "postinst-pkg": ["post-install", "post-upgrade"],
              "prerm-pkg": ["pre-deinstall"], "postrm": ["post-deinstall"]}
    for name in IPK_SCRIPTS:
        for there in bodies.get(name, []):
            yield body(ipk.scripts.get(name, b"")), body(apk.scripts.get(there, b"")), f"script {name} and {there}"


def body(script):
    """A script without what package-pack.mk puts before the maintainer's lines."""
    lines = [line for line in text(script).splitlines() if not line.startswith("#!") and line != "export PKG_UPGRADE=1"]
    for call in ("default_postinst", "default_prerm"):
        if call in lines:
            lines = lines[lines.index(call) + 1 :]
    return "\n".join(lines).strip()

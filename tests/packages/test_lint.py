#!/usr/bin/env python3
"""The lint's own tests: the tree as it is has no problem, and each damage to a
copy of it is named with its file and line. Run: tests/packages/test_lint.py"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
MAKEFILE, INIT, BOOT, CONFIG = "openwrt/vpnd/Makefile", "files/etc/init.d/vpnd", "files/etc/init.d/vpnd-boot", "files/etc/config/vpnd"
DEFAULTS = "files/etc/uci-defaults/99-more"
# File, what is there, what replaces it (None: the file's end), what the lint must say, and in which file.
DAMAGE = [
    (MAKEFILE, "PKG_VERSION:=0.1.0", "PKG_VERSION:=0.9.9", "version '0.9.9', but Cargo.toml:"),
    (MAKEFILE, "PKG_NAME:=vpnd\nPKG_VERSION:=0.1.0\n", "PKG_VERSION:=0.1.0\nPKG_NAME:=vpnd\n", "must come before"),
    (MAKEFILE, "  SECTION:=net\n  CATEGORY:=Network\n", "  CATEGORY:=Network\n  SECTION:=net\n", "SECTION comes too late"),
    (MAKEFILE, "PKG_LICENSE:=GPL-3.0-or-later", "PKG_LICENSE:=GPL-3.0", "is no SPDX licence"),
    (MAKEFILE, "# SPDX-License-Identifier", "# License", "does not begin with an SPDX"),
    (MAKEFILE, "PKG_LICENSE_FILES:=LICENSE", "PKG_LICENSE_FILES:=COPYING", "COPYING does not exist"),
    (MAKEFILE, "PKG_RELEASE:=1\n", "", "no PKG_RELEASE:="),
    (MAKEFILE, "\tmkdir -p $(PKG_BUILD_DIR)", "    mkdir -p $(PKG_BUILD_DIR)", "does not begin with a tab"),
    (MAKEFILE, "\n/etc/config/vpnd\n", "\n  /etc/config/vpnd\n", "a conffile is an absolute path"),
    (MAKEFILE, "\n/etc/config/vpnd\n", "\n/etc/config/vpnd2\n", "conffile /etc/config/vpnd2 is not installed"),
    (MAKEFILE, "call BuildPackage,vpnd", "call BuildPackage,$(PKG_NAME)", "is not the literal name vpnd"),
    (MAKEFILE, "files/usr/share/vpnd/way-out", "files/usr/share/vpnd/wayout", "does not exist"),
    (MAKEFILE, "\t$(INSTALL_BIN) $(PKG_BUILD_DIR)/files/usr/share/vpnd/way-out $(1)/usr/share/vpnd/way-out\n", "", "is not installed by the recipe", "files/usr/share/vpnd/way-out"),
    (MAKEFILE, "$(INSTALL_CONF)", "$(INSTALL_DATA)", "takes INSTALL_CONF"),
    (MAKEFILE, "$(INSTALL_BIN) $(PKG_BUILD_DIR)/files/etc/init.d/vpnd ", "$(INSTALL_DATA) $(PKG_BUILD_DIR)/files/etc/init.d/vpnd ", "INSTALL_DATA, but"),
    (MAKEFILE, "\t$(INSTALL_DIR) $(1)/etc/config\n", "", "no $(INSTALL_DIR) of /etc/config"),
    (MAKEFILE, "\nexit 0\nendef", "\nexit $STATUS\nendef", "a shell's is $$"),
    (MAKEFILE, "\nexit 0\nendef", "\necho $$1 | read x\nexit 0\nendef", "SC2"),
    (MAKEFILE, "#!/bin/sh\n", " #!/bin/sh\n", "does not begin with #!/bin/sh"),
    (INIT, "#!/bin/sh /etc/rc.common", "#!/bin/sh", "does not begin with #!/bin/sh /etc/rc.common"),
    (INIT, "STOP=89\n", "", "no STOP of two digits"),
    (BOOT, "START=18\n", "", "no START of two digits"),
    (INIT, "start_service() {\n", "start_service() {\n\t/usr/sbin/vpnd daemon &\n", "& starts what procd"),
    (INIT, "start_service() {\n", "start_service() {\n\techo $$ > /var/run/vpnd.pid\n", "a pid file"),
    (INIT, "start_service() {\n", "start_service() {\n\tstart-stop-daemon -S -x vpnd\n", "a process that procd"),
    (INIT, "USE_PROCD=1\n", "", "procd without USE_PROCD=1"),
    (INIT, "start_service() {", "start() {", "USE_PROCD without start_service"),
    (INIT, "start_service() {\n", "start_service() {\n\tlocal a=($1)\n", "SC3"),
    (CONFIG, "\toption enabled '0'", "    option enabled 0", "not of UCI's form"),
    ("files/lib/upgrade/keep.d/vpnd", "/etc/vpnd/\n", "etc/vpnd/\n", "no absolute path"),
    (DEFAULTS, None, "#!/bin/sh\nuci set a.b=c\n", "does not end in exit 0"),
    (DEFAULTS, None, "#!/bin/sh\n[ -e /x ] && exit 1\nexit 0\n", "exit before the end"),
    (DEFAULTS, None, "#!/bin/sh\nuci add firewall zone\nexit 0\n", "adds once more"),
    (DEFAULTS, None, "#!/bin/sh\necho x >> /etc/y\nexit 0\n", "appends once more"),
    (DEFAULTS, None, "#!/bin/sh\nuci -q get a.b || uci add_list a.b=c\nexit 0\n", "is not installed by the recipe"),
]


class Lint(unittest.TestCase):
    def run_lint(self, root):
        ran = subprocess.run([sys.executable, f"{HERE}/lint", root], capture_output=True, text=True)
        self.assertEqual(ran.stderr, "")
        self.assertEqual(ran.returncode, 1 if ran.stdout else 0)
        return ran.stdout

    def copy(self, folder):
        for part in ("openwrt", "files"):
            shutil.copytree(f"{HERE}/../../{part}", f"{folder}/{part}")
        for part in ("Cargo.toml", "LICENSE"):
            shutil.copy(f"{HERE}/../../{part}", folder)

    def test_the_tree(self):
        self.assertEqual(self.run_lint(f"{HERE}/../.."), "")

    def test_damage(self):
        for file, before, after, expected, *where in DAMAGE:
            with self.subTest(expected=expected, after=after), tempfile.TemporaryDirectory() as folder:
                self.copy(folder)
                path = f"{folder}/{file}"
                os.makedirs(os.path.dirname(path), exist_ok=True)
                text = ""
                if before is not None:
                    with open(path, encoding="utf-8") as stream:
                        text = stream.read()
                    self.assertIn(before, text)
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(text.replace(before, after, 1) if before is not None else after)
                found = [line for line in self.run_lint(folder).splitlines() if expected in line]
                self.assertTrue(found)
                self.assertRegex(found[0], rf"^{where[0] if where else file}:\d+: ")


if __name__ == "__main__":
    unittest.main()

# Stands in for OpenWrt's rules.mk, so that the feed's recipe runs without its SDK: cross/packages
# gives this folder as TOPDIR. Commands and modes are those that recipes rely on (rules.mk there).
#
# Given by cross/packages: ROOT (this project), PROGRAM (the folder whose bin/ holds the program),
# STAGE (where the files go) and META (where the fields go, one file each).
# `make package` writes both, `make fields` needs only ROOT and META.

INCLUDE_DIR := $(TOPDIR)/include

INSTALL_DIR := install -d -m 0755
INSTALL_BIN := install -m 0755
INSTALL_DATA := install -m 0644
INSTALL_CONF := install -m 0600
CP := cp -fpR
LN := ln -sf

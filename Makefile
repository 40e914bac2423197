# What a person does here. Each target installs what it needs (Debian, as root).
# The work is in scripts that can be called alone; their first lines explain them.

.DEFAULT_GOAL := help
.PHONY: help check test test-all demo bench cost soak fuzz cross smoke packages image rig-test install-tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: ## boots the virtual home and tells what it shows, in about three minutes
	@tests/run demo

test: ## all tests, those that need WireGuard spread over two kernels
	@tests/run test

test-all: ## all tests on every kernel, and the tests of the rig
	@tests/rig/selftest
	@tests/run test-all

check: ## formatting, clippy and shellcheck; warnings are errors
	@tests/check

bench: ## side by side with wg-quick: times, leaks, memory, size
	@tests/run bench

soak: ## COUNT (default 10000) random transitions and faults in sequence; hours under emulation
	@tests/run soak

cost: ## what the rules cost a forwarded packet, beside masquerading alone
	@tests/run cost

fuzz: ## every parser on hostile bytes, TIME seconds each (default 60)
	@tests/fuzz

cross: ## the release binary for TARGET (default x86_64; see cross/targets)
	@cross/build $(or $(TARGET),x86_64)

smoke: ## each target's programs under qemu-user, or TARGET's
	@cross/smoke $(TARGET)

packages: ## OpenWrt packages, .ipk and .apk, for ARCH (default: all of cross/targets) into out/packages
	@cross/packages $(ARCH)

image: ## a flashable image with vpnd, by the ImageBuilder in the folder IMAGEBUILDER, for PROFILE
	@cross/image "$(IMAGEBUILDER)" "$(PROFILE)"

rig-test: ## tests of the rig that boots the guests
	@tests/rig/selftest

install-tools: ## installs and builds beforehand what the other targets need
	@tests/tools

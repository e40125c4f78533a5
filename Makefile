# SPDX-License-Identifier: Apache-2.0
#   make          install what is missing (apt), build programs, tests and benchmarks into build/
#   make demo     the main job on real input: two tenants share this machine; a noisy neighbour, with and without cohorts
#   make check    build, every test, the checks of the tree; last line: N passed, N failed
#   make bench    side by side with the peers; build/bench/summary.json and plots
#   make check-long   the same tests at full length (hours are possible)
#   make lab      real kernels under qemu's emulation: boots them, and holds the model of cpusets against them
#   make install PREFIX=/usr/local DESTDIR=
#   make deb      Debian packages in build-deb/packages; scripts/check-deb tries them in a clean Debian 12
#   make clean
BUILD  ?= build
PREFIX ?= /usr/local
export BUILD

.DEFAULT_GOAL := all
.PHONY: all packages configure demo check check-long bench install deb clean lab help

all: configure
	@scripts/build $(BUILD)

packages:
	@scripts/install-packages

configure: packages
	@scripts/configure $(BUILD)

demo: all
	@scripts/demo $(BUILD)

check: all
	@scripts/check $(BUILD)

check-long: all
	@scripts/check --long $(BUILD)

bench: all
	@scripts/bench $(BUILD)

install: all
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)" >$(BUILD)/install.log || { tail -n 5 $(BUILD)/install.log; exit 5; }
	@echo "installed $$(grep -c -- '-- Installing' $(BUILD)/install.log) files under $(DESTDIR)$(PREFIX) (list: $(BUILD)/install.log)"

deb: packages
	@scripts/install-packages scripts/packages-deb.txt || echo "make deb: going on without; what is missing is said below" >&2
	@scripts/packages-deb

lab: all
	@scripts/install-packages scripts/packages-lab.txt || echo "make lab: going on without; what is missing is said below" >&2
	@lab/check $(BUILD)

clean:
	@rm -rf $(BUILD)

help:
	@sed -n 's/^#   //p' Makefile

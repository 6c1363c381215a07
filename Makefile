# Hob, by hand: `make run` for a first look, `make test` for all tests. Everything goes to build/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: deps deps-build deps-run build run stop test test-source test-sanitized test-vm test-microvm fuzz bench bench-% install clean

BUILD ?= build
PREFIX ?= /usr
DESTDIR ?=
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 600
CMAKE := CC=clang-19 CXX=clang++-19 cmake -G Ninja -S .

deps:
	@tools/install-deps.sh build run test

deps-build:
	@tools/install-deps.sh build

deps-run:
	@tools/install-deps.sh run

$(BUILD)/build.ninja: CMakeLists.txt cmake/rooms.cmake
	@$(CMAKE) -B $(BUILD) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@mv $(BUILD).log $(BUILD)/cmake.log

# The programs and the sample image; what tests need is built by `make test`.
build: deps-build
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@echo "building; the first time takes about five minutes on two cores"
	@ninja -C $(BUILD) -j $(JOBS) --quiet hob hobd hob-build hob-vmm hob-jailer hob-vm-run hob-guest hello_image
	@echo "built $(BUILD)/bin/hob, $(BUILD)/bin/hobd, $(BUILD)/images/hello.oci.tar"

# Starts Hob, pushes the sample image, creates a service from it through the public API, prints its URL.
run: build deps-run
	@tools/run-sample.sh $(BUILD) $(RUN_FLAGS)

# Stops what `make run` started, its data too.
stop:
	@data=$${HOB_DATA:-/var/lib/hob}; [ ! -e $$data/instance.json ] || $(BUILD)/bin/hob down --purge --data $$data

test: deps
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) --quiet
	@/usr/bin/python3 tools/run-tests.py --build $(BUILD)

# Every sample of images/source; `make test` takes some of them each day.
test-source: export HOB_TEST_ALL_SOURCES = 1
test-source: build
	@/usr/bin/python3 tools/run-tests.py --build $(BUILD) --only pytest -k test_source

# So that a report names functions and lines.
test-sanitized fuzz: export ASAN_SYMBOLIZER_PATH = /usr/lib/llvm-19/bin/llvm-symbolizer
test-sanitized fuzz: export UBSAN_OPTIONS = print_stacktrace=1

test-sanitized: deps
	@mkdir -p $(BUILD)-sanitized
	@$(CMAKE) -B $(BUILD)-sanitized -DHOB_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug >$(BUILD)-sanitized/cmake.log
	@ninja -C $(BUILD)-sanitized -j $(JOBS) --quiet
	@/usr/bin/python3 tools/run-tests.py --build $(BUILD)-sanitized

# By hand, not in `make test`: all that sandbox drivers promise, with tasks in microVMs; about ten minutes.
test-microvm: deps
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) --quiet
	@HOB_BUILD=$(BUILD) HOB_MICROVM_TASKS='*' /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/test_microvm_tasks.py

# By hand, not in `make test`: Hob on a plain Debian 12 (systemd, cgroup version 2 alone) in an emulated machine.
test-vm: build
	@tools/test-vm.sh $(BUILD)

# Each fuzz target for FUZZ_SECONDS; a crash is left in build-fuzz/crashes and fails.
fuzz: deps
	@mkdir -p $(BUILD)-fuzz
	@$(CMAKE) -B $(BUILD)-fuzz -DHOB_FUZZ=ON -DHOB_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug >$(BUILD)-fuzz/cmake.log
	@ninja -C $(BUILD)-fuzz -j $(JOBS) --quiet fuzzers
	@tools/run-fuzzers.sh $(BUILD)-fuzz $(FUZZ_SECONDS)

# Whole regions under virtual time, from seeds: `make sim SEEDS=1000`, `make sim SEED=42 TRACE=1` (src/sim/README.md).
.PHONY: sim
sim: deps-build
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) --quiet region_sim
	@$(BUILD)/bin/hob_sim --seeds $(or $(SEEDS),$(if $(SEED),1,100)) --first $(or $(SEED),1) --jobs $(JOBS) $(if $(TRACE),--trace)

# Us beside a named peer, a ratio each: bench/NAME.py, one a table row.
bench: deps benches
	@for script in bench/*.py; do /usr/bin/python3 "$$script" --build $(BUILD); done

# The programs that the scripts of bench/ measure.
.PHONY: benches
benches: build
	@ninja -C $(BUILD) -j $(JOBS) --quiet

bench-%: deps benches
	@/usr/bin/python3 bench/$*.py --build $(BUILD)

# The tables and pictures of docs/scaling.md.
.PHONY: scale-docs
scale-docs: deps-build
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) --quiet scale_bench
	@/usr/bin/python3 bench/scale.py --build $(BUILD) --docs docs

install: build
	@install -D -m 755 $(BUILD)/bin/hob $(DESTDIR)$(PREFIX)/bin/hob
	@install -D -m 755 $(BUILD)/bin/hobd $(DESTDIR)$(PREFIX)/sbin/hobd
	@install -D -m 755 $(BUILD)/bin/hob-vmm $(DESTDIR)$(PREFIX)/bin/hob-vmm
	@install -D -m 755 $(BUILD)/bin/hob-jailer $(DESTDIR)$(PREFIX)/bin/hob-jailer
	@install -D -m 755 $(BUILD)/bin/hob-monitor $(DESTDIR)$(PREFIX)/libexec/hob-monitor
	@install -D -m 755 $(BUILD)/bin/hob-build $(DESTDIR)$(PREFIX)/libexec/hob-build
	@install -d $(DESTDIR)$(PREFIX)/share/hob/runtimes
	@install -m 644 runtimes/*.yaml $(DESTDIR)$(PREFIX)/share/hob/runtimes/
	@install -D -m 755 $(BUILD)/bin/hob-vm-run $(DESTDIR)$(PREFIX)/libexec/hob-vm-run
	@install -D -m 755 $(BUILD)/bin/hob-guest $(DESTDIR)$(PREFIX)/libexec/hob-guest
	@install -D -m 644 share/hob.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/hob
	@install -d $(DESTDIR)$(PREFIX)/share/man/man1
	@gzip -9nc share/hob.1 >$(DESTDIR)$(PREFIX)/share/man/man1/hob.1.gz
	@install -d $(DESTDIR)/lib/systemd/system
	@sed 's|/usr/bin/|$(PREFIX)/bin/|' share/hob.service >$(DESTDIR)/lib/systemd/system/hob.service
	@echo "installed hob, hobd, hob-vmm, hob-jailer, hob-monitor, hob-vm-run, hob-guest, hob-build, runtimes, completion, manual page and systemd unit under $(DESTDIR)$(PREFIX)"

clean:
	@rm -rf $(BUILD) $(BUILD)-sanitized $(BUILD)-fuzz $(BUILD).log

# `make` alone prints the targets below.  Everything runs from .venv, which `make venv` fills.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test shim check testdata bench fuzz clean

help:
	@echo 'bpfctl: load, attach, inspect eBPF'
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# --- environment -----------------------------------------------------------------------------

venv: $(READY) ## .venv with bpfctl (editable) and what its tests need
	@:

# Debian keeps the ensurepip half of venv in a package of its own.  Editable "compat" is a line in a
# .pth file; the other mode imports a finder into every interpreter of .venv: 10 ms at each start.
# What setuptools leaves there costs a millisecond or two, and nothing needs it.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "bpfctl needs Python 3.11 or later: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'); \
		echo "installing Debian's $$package ..."; \
		export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get -qq update && apt-get -qq -y install $$package; } >/dev/null </dev/null; }
	@echo "making $(VENV) (once, half a minute) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check \
		--config-settings editable_mode=compat --editable '.[test]'
	@$(BIN)/pip uninstall -qq --yes --disable-pip-version-check setuptools
	@touch $@

# What runs bpfctl often wants its bytecode, also where PYTHONDONTWRITEBYTECODE is set.
.PHONY: bytecode
bytecode: $(READY)
	@$(BIN)/python -m compileall -q bpfctl

# --- the two commands of README.md -----------------------------------------------------------

demo: bytecode ## both object generations on one device, with real traffic (root, 10 s)
	@$(BIN)/python tests/demo.py

test: bytecode check ## everything that CI runs: check, then all tests (kernel tests need root)
	@$(BIN)/python -m pytest -q

# Tests marked `kernels`, on other kernels: features are only probed, and BTF only written anew, where an
# older kernel has refused something.  KERNEL_VM is a script of yours that runs a command on a kernel,
#
#     KERNEL_VM KERNEL DIR -- COMMAND [ARGUMENT ...]
#
# in a virtual machine that sees this machine's files at their paths and may write to DIR, as root, with
# bpffs, cgroup2 and tracefs mounted, in DIR; it prints what the command prints and ends with its exit
# status.  KERNEL is one of KERNELS, names that the script knows.
KERNELS      ?= 5.10 6.1 6.12 latest
KERNEL_TESTS := $(shell grep -l 'pytest.mark.kernels' tests/*/test_*.py)
.PHONY: test-kernels

test-kernels: bytecode ## the quick kernel tests in VMs of other kernels (KERNEL_VM=script)
	@test -n "$(KERNEL_VM)" || { echo "usage: make test-kernels KERNEL_VM=script, see Makefile" >&2; exit 1; }
	@failed=; for kernel in $(KERNELS); do \
		echo "Linux $$kernel"; \
		"$(KERNEL_VM)" $$kernel "$(CURDIR)" -- env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
			$(BIN)/python -m pytest -q -m kernels --tb=short -p no:cacheprovider $(KERNEL_TESTS) \
			|| failed="$$failed $$kernel"; \
	done; test -z "$$failed" || { echo "failed on:$$failed" >&2; exit 1; }

# --- in the place of ip and tc ---------------------------------------------------------------

shim: bytecode ## DIR=...: links ip and tc to bpfctl; put DIR first in PATH
	@test -n "$(DIR)" || { echo "usage: make shim DIR=/usr/local/lib/bpfctl" >&2; exit 1; }
	@mkdir -p "$(DIR)"
	@for tool in ip tc; do ln -sfn "$(CURDIR)/$(BIN)/bpfctl" "$(DIR)/$$tool" || exit 1; done
	@echo "shim: ip and tc in $(DIR); PATH=$(DIR):\$$PATH makes them the first ones"

# --- development -----------------------------------------------------------------------------

MAN_PAGES := $(wildcard man/*.[1-8])
DOC_TESTS := $(wildcard tests/*/test_docs.py)

check: $(READY) ## style, types, man pages, documents: no root, no kernel
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@MYPYPATH=tests $(BIN)/mypy --no-error-summary tests/netlab.py tests/conftest.py tests/demo.py \
		tests/fuzz/*.py
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning $(MAN_PAGES) </dev/null; \
		else echo "mandoc is not installed: man pages not linted"; fi
	@$(if $(DOC_TESTS),$(BIN)/python -m pytest -q --no-header -p no:cacheprovider $(DOC_TESTS))
	@echo "check: style, types and documents are fine"

bench: bench-startup bench-batch ## start-up and batch speed against tc, ip and bare Python

bench-%: bytecode ## one of tests/bench: startup, batch, load ...
	@$(BIN)/python tests/bench/$*.py

fuzz: bytecode ## 200,000 broken objects, read and loaded without a kernel (no root; minutes)
	@$(BIN)/python tests/fuzz/run.py

clean: ## remove what can be made again (not testdata)
	@rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find bpfctl tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- test objects ----------------------------------------------------------------------------
# Checked in, since a machine that runs the tests needs no compiler.  One pinned clang, no path of
# the build machine and no DWARF in the objects: a rebuild gives the same bytes, and `git diff`
# shows when it does not.  Needs clang-19, llvm-19 and linux-libc-dev.

CLANG  := clang-19
STRIP  := llvm-strip-19
BFLAGS := -O2 -mcpu=v3 -Wall -Werror -fdebug-prefix-map=$(CURDIR)= \
	-idirafter /usr/include/$(shell uname -m)-linux-gnu

OBJECTS := $(patsubst %.c,%.o,$(wildcard testdata/*.bpf.c))
# Without BTF, as old compilers leave it; and for a machine of the other byte order.
NOBTF_OBJECTS := $(addprefix testdata/,tc_pass_nobtf.bpf.o xdp_pass_nobtf.bpf.o proto_counters_nobtf.bpf.o)
BIGENDIAN_OBJECTS := $(addprefix testdata/,subprogs_bigendian.bpf.o proto_counters_bigendian.bpf.o)

testdata: $(OBJECTS) $(NOBTF_OBJECTS) $(BIGENDIAN_OBJECTS) ## rebuild the test objects (clang-19)
	@:

.PHONY: $(OBJECTS) $(NOBTF_OBJECTS) $(BIGENDIAN_OBJECTS)

$(OBJECTS): %.o: %.c
	@$(CLANG) -g -target bpfel $(BFLAGS) -c $< -o $@
	@$(STRIP) -g $@

$(NOBTF_OBJECTS): %_nobtf.bpf.o: %.bpf.c
	@$(CLANG) -target bpfel $(BFLAGS) -c $< -o $@

$(BIGENDIAN_OBJECTS): %_bigendian.bpf.o: %.bpf.c
	@$(CLANG) -g -target bpfeb $(BFLAGS) -c $< -o $@
	@$(STRIP) -g $@

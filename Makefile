# The one door: make, make run, make test, make check, make docs, make mutate, make bench, make test-distributions.
# A fresh machine needs Python 3.11 or later with venv, a C compiler and make. CONTRIBUTING.md says more.

PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin/python
BUILD  ?= release
export FASTINETD_BUILD := $(BUILD)

CORE := $(wildcard $(addprefix fastinetd/,*.pyx */*.pyx */*.pxd */*.h)) $(addprefix fastinetd/,cli/launcher.c stage/stage.c)

.PHONY: all build run test mutate check bench docs test-distributions clean distclean

all: build

build: $(VENV)/.built-$(BUILD)

# The tools come first: the core is built by the Cython they pin, not by one in isolation.
$(VENV)/.tools: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --upgrade 'pip>=25.1'
	$(RUN) -m pip install -q --group dev
	touch $@

$(VENV)/.built-$(BUILD): $(VENV)/.tools setup.py $(CORE)
	$(RUN) -m pip install -q --no-build-isolation -e .
	$(RUN) setup.py -q build_ext --inplace $(if $(wildcard $(VENV)/.built-*),--force)
	rm -f $(VENV)/.built-*
	touch $@

run: build
	$(RUN) -m fastinetd --demo --metrics 127.0.0.1:9100

test: build
	$(RUN) -m pytest

# On fresh Debian systems, as root; ROOTS is the folder that keeps them. tests/distributions/run says more.
test-distributions:
	tests/distributions/run $(DISTRIBUTIONS)

# Mutations in a copy of the tree, as root: what no test notices; tests/mutation/__main__.py says more.
mutate: build
	PYTHONPATH=tests $(RUN) -m mutation $(MUTATE)

check: build
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest tests/source tests/unit

bench: build
	$(RUN) -m bench

docs: build
	$(RUN) -m fastinetd.manual.attributes > docs/attributes.md
	$(RUN) -m fastinetd.manual.metrics > docs/metrics.md
	$(RUN) -m fastinetd.manual.layout_stub > fastinetd/core/layout.pyi

clean:
	rm -rf build bench/build *.egg-info fastinetd/*.so fastinetd/*/*.so $(patsubst %.pyx,%.c,$(filter %.pyx,$(CORE))) $(VENV)/.built-*

distclean: clean
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

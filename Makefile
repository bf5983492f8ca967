# Each target is a line or two that can be typed by hand, on Windows too (there, .venv\Scripts instead of .venv/bin).

# The first Python that is 3.11 or newer; name another one with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin

OVERLAYS := kind gpu prod
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: install lint test soak coverage same-numbers docs docs-versions release-check demo bench k8s-render clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed

# Installs again whenever the dependencies have changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "edgegen needs Python 3.11 or newer; set PYTHON=/path/to/python." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[serve,dev]"
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install
	$(PYTEST) -m "not soak"

# What takes long because it has to: load, faults, and commands that repeat each other.
soak: install
	$(PYTEST) -m soak

# Branches that `make test` takes; by file in build/coverage/index.html.
coverage: install
	$(PYTEST) -m "not soak" --cov --cov-report=term --cov-report=html

# `make same-numbers BEFORE=../before QUICK=1`: whether that checkout computes the same numbers as this one, bit for bit.
same-numbers: install
	@test -n "$(BEFORE)" || { echo "Set BEFORE=/path/to/the/other/checkout." >&2; exit 1; }
	$(BIN)/python tests/tools/same_numbers.py $(BEFORE) . $(if $(QUICK),--quick)

# The website in build/site, with a reference of every command and module; a warning is an error.
docs: install
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . build/site

# The website of every tagged version beside that of the working tree: build/versions/v0.1.0, …, build/versions/latest.
docs-versions: install
	$(BIN)/python tests/tools/docs_versions.py build/versions

# Before a tag: versions agree, sdist and wheel are sound, and the wheel runs in a clean environment of every Python here.
release-check: install
	$(BIN)/python tests/tools/release_check.py $(if $(UNRELEASED),--unreleased)

# `make demo KEEP=1` leaves the service up until Ctrl-C.
demo: install
	$(BIN)/edgegen demo $(if $(KEEP),--keep)

bench: install
	$(BIN)/edgegen bench --json runs/bench.json

# Writes what each overlay and its jobs would apply to build/k8s; needs kubectl, but no cluster.
k8s-render:
	mkdir -p build/k8s
	for overlay in $(OVERLAYS); do for part in "" /train /sweep /interactive; do \
		kubectl kustomize k8s/overlays/$$overlay$$part > build/k8s/$$overlay$$(echo $$part | tr / -).yaml || exit 1; done; done
	kubectl kustomize k8s/monitoring > build/k8s/monitoring.yaml

# Keeps the virtual environment and everything in runs/.
clean:
	rm -rf build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

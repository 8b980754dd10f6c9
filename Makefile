# make demo: everything set up, then a real tool installed, driven, captured and compared.  make test: all checks and tests.
# make bench: what a step costs, as tables.  make soak: the tests, with thousands of steps, sequences and faults.
# Needs python3 (3.11 or newer), make, and root or sudo for what the system's package manager has to install.

.DELETE_ON_ERROR:
.PHONY: demo test bench soak lint engine clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TERMINAL := $(if $(shell command -v tmux),,/usr/bin/tmux)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

demo: $(STAMP) engine
	$(BIN)/testronaut-lab run examples/jq.lab.yaml

test: lint engine $(TERMINAL)
	$(BIN)/pytest --cov --cov-branch --cov-report=term --cov-fail-under=90

bench: $(STAMP) engine
	$(BIN)/python benchmarks

soak: $(STAMP) engine
	TESTRONAUT_LAB_SOAK=1 $(BIN)/pytest --timeout 3600

# The dashboard is tested in a real terminal.
/usr/bin/tmux:
	$(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends tmux

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

engine: $(STAMP)
	$(BIN)/testronaut-lab engine up

# Debian's python3 comes without ensurepip; a folder that a failed attempt left behind is made anew.
$(BIN)/python:
	python3 -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "python 3.11 or newer is needed, this is " + sys.version)'
	python3 -c 'import ensurepip, venv' 2>/dev/null || { \
		$(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends python3-venv; }
	python3 -m venv --clear $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .coverage dist

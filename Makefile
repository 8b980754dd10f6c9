# make demo: everything set up, then a real tool installed, driven, captured and compared.  make test: all checks and tests.
# make user: the part of the tests that shows what an ordinary user has; where root runs `make test`, a new user runs it first.
# make newest: the tests that need no engine, under the python3 of the newest Debian (RELEASE=trixie).
# make docs: the documentation as a site, links and anchors checked, into build/site.  make dist: wheel and source archive.
# make bench: what a step costs, as tables.  make soak: the tests, with thousands of steps, sequences and faults.
# make engines: the contract on every engine that Debian has, into docs/engines.md.
# make engines V2=1: chosen tests under cgroup v2 with systemd, in a kernel of its own, as docs/engines.md has them.
# Needs python3 (3.11 or newer), make, and root or sudo for what the system's package manager has to install: where neither is
# to be had, the command to type is printed.

.DELETE_ON_ERROR:
.PHONY: demo test user newest docs dist bench soak engines lint engine clean
# Tests start the program and pytest hundreds of times: compiled once, not each time.
unexport PYTHONDONTWRITEBYTECODE
# Two pips in one environment would get in each other's way.
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
# The program and what it needs; the same with the tools of tests and documentation.
PROGRAM := $(VENV)/.program
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e
TERMINAL := $(if $(shell command -v tmux),,/usr/bin/tmux)
# Half of a test's time is the engine's; what a worker is done with, the other one takes over.
WORKERS := -n 2 --dist worksteal
IS_ROOT := $(filter 0,$(shell id -u))
# Where being an ordinary user makes a difference: sessions, their files and limits, base images, and one of each thing that is seen.
USER_TESTS := tests/contract tests/execution/test_session.py tests/execution/test_session_limits.py \
	tests/execution/test_session_loss.py tests/execution/test_session_profile.py tests/execution/test_session_steps.py \
	tests/execution/test_session_usage.py tests/execution/test_directory.py tests/container/test_stepuser.py \
	tests/execution/test_files.py tests/capture/test_file_capture.py tests/capture/test_file_capture_locked.py \
	tests/execution/test_undo.py tests/container/test_namespaces.py \
	tests/installation/test_install_managers.py::test_a_package_installs_is_verified_and_runs \
	tests/pytest_plugin/test_pytest_plugin.py tests/ui/test_tui_terminal.py

define NEXT

To go on:
  $(BIN)/testronaut-lab show last   what each step wrote and changed
  docs/tutorial.md                     a plan of your own, in five minutes
  $(BIN)/testronaut-lab --help      everything else; the program is in $(BIN)
endef
export NEXT

demo:
	@echo '1/3  the program and what it needs, into $(VENV)'
	@$(MAKE) --no-print-directory $(PROGRAM)
	@echo '2/3  a container engine: the one that runs here, else one is installed and started'
	@$(MAKE) --no-print-directory engine
	@echo '3/3  a plan: jq is installed in a container, driven, and compared with what it did before'
	$(BIN)/testronaut-lab run examples/jq.lab.yaml
	@echo "$$NEXT"

# The whole suite comes last, so that the last line is its count.
test: lint engine $(TERMINAL)
	$(if $(IS_ROOT),.ci/as-user demo user)
	$(BIN)/pytest $(WORKERS) --cov --cov-branch --cov-report=term --cov-fail-under=90

user: $(STAMP) engine $(TERMINAL)
	$(BIN)/pytest $(WORKERS) --no-cov $(USER_TESTS)

newest: $(STAMP) engine
	$(BIN)/python .ci/newest.py $(RELEASE)

bench: $(STAMP) engine
	$(BIN)/python benchmarks

soak: $(STAMP) engine
	TESTRONAUT_LAB_SOAK=1 $(BIN)/pytest --timeout 3600

ifeq ($(V2),1)
engines: $(STAMP) engine
	$(BIN)/python tests/engines/userlinux.py
else
# One row after the other: ONLY=TEXT chooses rows by their names, TESTS=EXPRESSION tests by theirs, DOCKERD=FILE adds rows of a
# dockerd that Debian does not have.
engines: $(STAMP) engine
	$(BIN)/python tests/engines $(addprefix --only ,$(ONLY)) $(if $(TESTS),--tests '$(TESTS)') $(if $(DOCKERD),--dockerd $(abspath $(DOCKERD)))
endif

# The dashboard is tested in a real terminal.
/usr/bin/tmux:
	.ci/packages tmux

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

engine: $(PROGRAM)
	$(BIN)/testronaut-lab engine up

docs: $(STAMP)
	$(BIN)/python docs/site/build.py

dist: $(STAMP)
	rm -f dist/*.whl dist/*.tar.gz
	$(BIN)/python -m build --no-isolation

# Debian's python3 comes without ensurepip; a folder that a failed attempt left behind is made anew.
$(BIN)/python:
	python3 -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "python 3.11 or newer is needed, this is " + sys.version)'
	python3 -c 'import ensurepip, venv' 2>/dev/null || .ci/packages python3-venv
	python3 -m venv --clear $(VENV)

$(PROGRAM): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) .
	touch $@

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) '.[dev]'
	touch $(PROGRAM) $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .coverage build dist

# Two commands matter: `make demo` installs everything and forecasts a simulated house; `make test` installs everything and runs the tests.
# Needs Python 3.11 or 3.12 and make, nothing else. All targets share one virtual environment, made on first use.

VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ARGS ?=
PEERS ?= .venv-peers

.PHONY: help install demo test check format bench accuracy soak coverage constraints clean

help:
	@echo "make demo    forecast a simulated house end to end (ARGS='--data FILE' for your own)"
	@echo "make test    run the tests (ARGS='-k name')"
	@echo "make check   lint, format and types"
	@echo "make bench   write benchmarks/RESULTS.md"
	@echo "make soak    prove that the agent stands faults, and write benchmarks/SOAK.md (ARGS='--only NAME', ARGS=--quick)"
	@echo "make accuracy ARGS='--data FOLDER'   write benchmarks/ACCURACY.md, other methods beside ours on the same origins"

install: $(STAMP)

# Several pythons may be on the PATH, and a version manager's shim may answer for one that is not there: take the first that runs and fits.
$(PY):
	@for p in python3.12 python3.11 python3 python; do \
	  if $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	    echo "making $(VENV) with $$p"; exec $$p -m venv $(VENV); fi; done; \
	echo "error: no Python 3.11 or 3.12 with venv found: install one (Debian: python3-venv) and try again" >&2; exit 1

$(STAMP): pyproject.toml constraints.txt | $(PY)
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.8
	@echo "installing Hearthcast and its tools into $(VENV) (about 3 GB, most of it TensorFlow)"
	@$(PY) -m uv pip install --quiet --python $(PY) --constraint constraints.txt --editable '.[dev,spark]'
	@touch $@

demo: $(STAMP)
	$(VENV)/bin/hearthcast-demo $(ARGS)

test: $(STAMP)
	$(PY) -m pytest $(ARGS)

check: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy edge_agent export

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(STAMP)
	$(PY) -m benchmarks $(ARGS)

soak: $(STAMP)
	$(PY) -m benchmarks.soak $(ARGS)

accuracy: $(STAMP) $(PEERS)/.installed
	$(PY) -m benchmarks.accuracy --peers $(PEERS)/bin/python $(ARGS)

# Other people's libraries have an environment of their own. torch's CPU build, named by its local version, is taken from a folder that pip knows or
# by uv's own way to it: never a CUDA build of several GB.
$(PEERS)/.installed: benchmarks/accuracy/peers.txt | $(STAMP)
	@echo "installing what Hearthcast is compared with into $(PEERS) (about 2 GB)"
	@$(PY) -m venv $(PEERS)
	@$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $< 2>/dev/null || \
	  $(PY) -m uv pip install --quiet --python $(PEERS)/bin/python --torch-backend cpu -r $<
	@touch $@

coverage: $(STAMP)
	$(PY) -m pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

# Names and versions only: no download addresses.
constraints: $(STAMP)
	@echo '# Pinned versions for every extra, Python 3.11 and 3.12. Made by `make constraints`; names no addresses.' > $@.new
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --upgrade --all-extras --no-annotate --no-header --no-emit-index-url pyproject.toml >> $@.new
	mv $@.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-output

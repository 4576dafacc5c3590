# Two commands do everything on a machine with Python, make and a package registry:
#   make demo    train, sample and draw on real digits; results in out/demo
#   make test    the default test suite with its coverage
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Any interpreter that ArviZ 1.x runs on; empty if there is none.
PYTHON_ARVIZ1 ?= $(firstword $(foreach v,3.13 3.12,$(shell command -v python$(v) >/dev/null 2>&1 && python$(v) -c 'import sys; print(sys.executable)' 2>/dev/null)) $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python $(HOME)/.pyenv/versions/3.12*/bin/python))

export MPLBACKEND := agg

.PHONY: demo test test-slow test-all test-notebooks notebooks test-arviz1 lint docs bench venv clean

demo: venv
	$(BIN)/python -m pyro_idvae --out out/demo

test: venv
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

# Calibration of the samplers and other statistical checks that take minutes.
test-slow: venv
	$(BIN)/python -m pytest -n 2 -m slow

test-all: test test-slow

# The notebooks in a quick mode, as a check; `make notebooks` runs them in full and keeps the outputs.
test-notebooks: $(VENV)/.stamp-notebooks
	PYRO_IDVAE_QUICK=1 $(BIN)/python -m pytest -n 2 -o addopts= --nbmake --nbmake-timeout=600 notebooks

notebooks: $(VENV)/.stamp-notebooks
	$(BIN)/python -m nbconvert --to notebook --execute --inplace notebooks/*.ipynb

# The seam to ArviZ needs no torch: its tests also run against ArviZ 1.x.
test-arviz1: .venv-arviz1/.stamp
	.venv-arviz1/bin/python -m pytest -q --noconftest -p no:cacheprovider -c /dev/null --rootdir . tests/test_arviz_io.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py

docs: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.stamp-bench
	$(BIN)/python benchmarks/gradient.py
	$(BIN)/python benchmarks/vae_step.py
	$(BIN)/python benchmarks/exact_posterior.py
	$(BIN)/python benchmarks/collapse_power.py

venv: $(VENV)/.stamp

$(VENV)/.stamp: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/.stamp-notebooks: $(VENV)/.stamp
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[notebooks]'
	touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

.venv-arviz1/.stamp: constraints.txt
	@test -n "$(PYTHON_ARVIZ1)" || { echo "test-arviz1 needs Python 3.12 or 3.13: set PYTHON_ARVIZ1"; exit 1; }
	$(PYTHON_ARVIZ1) -m venv .venv-arviz1
	.venv-arviz1/bin/python -m pip install -q 'arviz>=1.1,<2' matplotlib h5netcdf h5py pytest
	touch $@

clean:
	rm -rf $(VENV) .venv-arviz1 out docs/_build docs/api

# For scripts: the interpreter test-arviz1 would use.
.PHONY: print-python-arviz1
print-python-arviz1:
	@echo "$(PYTHON_ARVIZ1)"

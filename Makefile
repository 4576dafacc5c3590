# Two commands do everything on a machine with Python, make and a package registry:
#   make demo    train, sample and draw on real digits; results in out/demo
#   make test    the default test suite with its coverage
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Any interpreter that ArviZ 1.x runs on; empty if there is none.
PYTHON_NEWER ?= $(firstword $(foreach v,3.13 3.12,$(shell command -v python$(v) >/dev/null 2>&1 && python$(v) -c 'import sys; print(sys.executable)' 2>/dev/null)) $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python $(HOME)/.pyenv/versions/3.12*/bin/python))

export MPLBACKEND := agg

.PHONY: demo test test-slow test-all test-notebooks notebooks test-newer lint docs bench venv clean

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
	MPLBACKEND=module://matplotlib_inline.backend_inline \
	  $(BIN)/python -m nbconvert --to notebook --execute --inplace notebooks/*.ipynb

# Python 3.12 and newer get ArviZ 1.x. The whole suite there, if a torch for it is a small download (no
# CUDA libraries); else what needs no torch: the seam, the estimators, reports and plots of stored draws.
test-newer: .venv-newer/.stamp
	@if .venv-newer/bin/python -c 'import torch' 2>/dev/null; then \
	  .venv-newer/bin/python -m pytest -q -n 2; \
	else \
	  echo "test-newer: without torch, so programs, infer, models, autopsies and certificates are left out"; \
	  PYTHONPATH=tests/stored:. .venv-newer/bin/python -m pytest -q --noconftest -p bare -p no:cacheprovider \
	    -c /dev/null --rootdir . --import-mode=importlib \
	    tests/test_arviz_io.py tests/diagnostics/estimators tests/stored; \
	fi

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
	$(BIN)/python benchmarks/evidence.py

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

.venv-newer/.stamp: setup.cfg constraints.txt
	@test -n "$(PYTHON_NEWER)" || { echo "test-newer needs Python 3.12 or 3.13: set PYTHON_NEWER"; exit 1; }
	$(PYTHON_NEWER) -m venv .venv-newer
	.venv-newer/bin/python -m pip install -q --upgrade pip
	@if .venv-newer/bin/python -m pip install -q --dry-run --report - -c constraints.txt torch 2>/dev/null \
	  | grep -q '"name": "nvidia'; then \
	  .venv-newer/bin/python -m pip install -q -c constraints.txt 'arviz>=1.1,<2' matplotlib h5netcdf h5py pytest statsmodels; \
	else \
	  .venv-newer/bin/python -m pip install -q -c constraints.txt -e '.[test]'; \
	fi
	touch $@

clean:
	rm -rf $(VENV) .venv-newer out docs/_build docs/api

# For scripts: the interpreter test-newer would use.
.PHONY: print-python-newer
print-python-newer:
	@echo "$(PYTHON_NEWER)"

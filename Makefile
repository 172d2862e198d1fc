# Everything the project does, from an empty clone. Works with GNU make 3.81 and the BSD tools,
# that is, on macOS as well as on Linux.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

CHAPTERS := 01_recurrent_dropout 02_memory_loss 03_word_language_model
RESULTS := runs/results
EXECUTE := $(BIN)/python tools/execute.py
# The committed notebooks are executed already, so the build needs neither a kernel nor a network.
SPHINX := $(BIN)/sphinx-build -W --keep-going -q -c book . book/_build/html

# Threads that wait give up their core soon: beside other programs small networks train many times
# faster so. The command `recdrop` does the same.
GOMP_SPINCOUNT ?= 1000
export GOMP_SPINCOUNT

# Bytecode is kept whatever the environment says: without it every process that imports torch would
# first compile a thousand modules, and the tests start hundreds.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help env book book-html test notebooks soak lab clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# Modules are compiled to bytecode when they are first used: all at once would take a minute.
env: $(STAMP) ## Install everything into .venv; does nothing where it is up to date

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "recdrop needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
	         "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-compile -c constraints.txt -e '.[study,book,test]'
	@touch $@

# Training resumes: what runs/results holds already is read and not trained again, so that an
# interrupted `make book` goes on where it stopped. FRESH=1 begins anew.
book: env ## Train the chapters' networks live, show the results, build the book (FRESH=1: anew)
	@if [ "$(FRESH)" = 1 ]; then rm -rf $(RESULTS); fi
	@if [ -n "$$(ls $(RESULTS) 2>/dev/null)" ]; then \
	    echo "Finished runs in $(RESULTS) are read; to train all anew: make book FRESH=1"; fi
	@mkdir -p $(RESULTS)
	@set -e; for name in $(CHAPTERS); do \
	    echo "== notebooks/$$name.ipynb"; \
	    $(EXECUTE) notebooks/$$name.ipynb runs/$$name.ipynb \
	        profile=quick results_dir=$(RESULTS); \
	done
	@$(BIN)/recdrop results --table 1 --results-dir $(RESULTS)
	@$(BIN)/recdrop results --table 2 --results-dir $(RESULTS)
	@$(MAKE) --no-print-directory book-html

book-html: env ## Build the book from the committed notebooks
	@$(SPHINX)
	@$(BIN)/python -c 'from pathlib import Path; \
	    print("The book:", Path("book/_build/html/book/index.html").resolve().as_uri())'

# The book first, so that the last lines are the tests' own.
test: env ## Check style, build the book strictly, run all tests, re-execute the notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(SPHINX)
	$(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile \
	    -rs --doctest-modules --ignore-glob '*conftest.py' --nbval --nbval-sanitize-with tests/nbval_sanitize.cfg \
	    tests recdrop notebooks

# By way of runs/, so that a notebook that fails leaves the committed one as it was.
notebooks: env ## Execute the committed notebooks anew, in place and in canonical form
	@mkdir -p runs/notebooks
	@set -e; for source in notebooks/*.ipynb; do \
	    executed=runs/$$source; \
	    $(EXECUTE) $$source $$executed; \
	    $(BIN)/python tools/canonicalise.py $$executed; \
	    cp $$executed $$source; \
	done
	$(BIN)/recdrop figure effect --out book/_static/effect.svg

# It goes on where it was interrupted: runs/soak has what was tried.
soak: env ## Kill 100 trainings and sweeps, run 500 points, write the book's table (half an hour)
	$(BIN)/python tests/reliability/soak.py

lab: env ## Open JupyterLab at the notebooks
	$(BIN)/jupyter-lab notebooks

clean: ## Remove all that was built or trained here, but not .venv
	rm -rf runs/* book/_build build .pytest_cache .ruff_cache .hypothesis .coverage
	find recdrop tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

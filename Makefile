# The Glass Box: every target works alone on a fresh clone.
#
#   make book                                       the site, from data that needs no download
#   make book PROFILE=full GLASSBOX_DATA=../data    the site, from the lessons' data
#
# Variables: PROFILE (sample or full), GLASSBOX_DATA (folder of downloaded data), DEVICE (cuda, mps
# or cpu), JOBS (chapters that execute at a time), PORT (of make serve), PYTHON (that makes .venv).

PYTHON ?= python3
PROFILE ?= $(or $(GLASSBOX_PROFILE),sample)
PORT ?= 8000
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/installed

export GLASSBOX_PROFILE := $(PROFILE)
ifneq ($(GLASSBOX_DATA),)
# Also when it is given on the command line: chapters execute in a folder of their own.
override export GLASSBOX_DATA := $(abspath $(GLASSBOX_DATA))
endif
ifneq ($(DEVICE),)
export GLASSBOX_DEVICE := $(DEVICE)
endif
ifneq ($(JOBS),)
export JOBS
endif

# $(call need,program names,package,what it is for)
need = for program in $(1); do command -v $$program >/dev/null && exit 0; done; \
	echo "$(2) is missing, which $(3): install it with 'sudo apt-get install $(2)'." >&2; exit 1

.DEFAULT_GOAL := help
.PHONY: help book exercises serve test test-all lint bench clean system

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1@/p' $(MAKEFILE_LIST) | while IFS=@ read -r name text; do \
		printf 'make %-10s %s\n' "$$name" "$$text"; done

book: $(READY) ## execute what changed, build _build/html/index.html
	@$(RUN) -m press build

serve: $(READY) ## build, serve on localhost, rebuild a page when its source is saved
	@$(RUN) -m press serve --port $(PORT)

exercises: $(READY) ## from solutions/: the learners' notebooks, and the solved ones for the tests
	@$(RUN) -m lectern release
	@$(RUN) tests/exercises/record.py

lint: $(READY) ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test: system lint book ## what every change must pass
	$(RUN) -m pytest -m "not long" $(PYTEST_ARGS)

test-all: system lint book ## the long tier too: every mutation, many seeds
	$(RUN) tests/library/mutation.py
	$(RUN) -m pytest --hypothesis-profile=long $(PYTEST_ARGS)

bench: $(READY) ## one line for each figure, and _build/bench.json
	@$(RUN) -m press bench
	@$(RUN) -m lectern.bench

clean: ## remove everything that was made, but the environment
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests exercises -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@$(call need,chromium chromium-browser google-chrome,chromium,opens every page in the tests)
	@$(call need,bwrap,bubblewrap,isolates students' code)

# Installed again when what is to be installed changes.
$(READY): pyproject.toml constraints.txt
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { \
		echo "python3-venv is missing, which makes .venv: install it with 'sudo apt-get install python3-venv'." >&2; \
		rm -rf $(VENV); exit 1; }
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[book,lectern,test]"
	@touch $@

# Everything a developer or a stranger runs. `make help` lists it.
# Extra arguments for what is run: make demo ARGS=--headless, make test ARGS='-k maglev'

SHELL := /bin/bash
PYTHON := .venv/bin/python
ARGS ?=
# where `make install` puts a link to cdnctl
BINDIR ?= /usr/local/bin
PICTURES := cdnctl/share/pictures
# some wait more than they compute
WORKERS ?= $(shell echo $$(( $$(nproc) + 2 )))

.DEFAULT_GOAL := help
.PHONY: help install setup demo test soak lint bench bench-quick recordings pictures goldens keys clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: ## on a real edge: what it runs with and no more (Debian, Ubuntu), and cdnctl in /usr/local/bin
	@.ci/setup.sh edge
	@if [ -e $(BINDIR)/cdnctl ] && [ ! -L $(BINDIR)/cdnctl ]; then \
		echo "install: $(BINDIR)/cdnctl is there and none of ours: remove it, or make install BINDIR=..." >&2; exit 1; \
	fi
	@mkdir -p $(BINDIR) && ln -sfn $(CURDIR)/.venv/bin/cdnctl $(BINDIR)/cdnctl

setup: ## what lab and developers need besides, and .venv; costs nothing when nothing is missing
	@.ci/setup.sh

demo: setup ## the incident, live, in about 100 s: a lab edge, three CDNs, faults and a flood
	@exec .venv/bin/cdnctl demo $(ARGS)

# Bytecode is kept, whatever the environment says: else each of a thousand processes compiles us anew.
test soak: export PYTHONDONTWRITEBYTECODE :=

# 5: nothing was selected, by ARGS.
test: ## the tests that gate a change: what needs no quiet, on all cores; live edges, two at a time; loud ones
	@.ci/setup.sh test
	$(PYTHON) -m pytest tests/unit tests/packet tests/console tests/bench -n $(WORKERS) --dist loadfile \
		-m "not soak and not bench" $(ARGS) || [ $$? = 5 ]
	$(PYTHON) -m pytest tests/e2e -n 2 --dist loadfile -m "not soak and not quiet" $(ARGS) || [ $$? = 5 ]
	$(PYTHON) -m pytest tests/e2e -m "not soak and quiet" $(ARGS) || [ $$? = 5 ]

soak: ## the tests that take minutes, and ten times as many examples for those that make theirs up
	@.ci/setup.sh test
	$(PYTHON) -m pytest tests -m "soak or hypothesis" --hypothesis-profile=whole $(ARGS)

lint: setup ## style, types, and who may import whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict cdnctl
	.venv/bin/lint-imports
	@shopt -s nullglob; files=(bpf/*.[ch]); \
	if (( $${#files[@]} )); then \
		echo "clang-format --dry-run -Werror $${files[*]}"; \
		.venv/bin/clang-format --dry-run -Werror "$${files[@]}"; \
	fi

bench: ## nanoseconds, drops, a request's cost, failover, starts; beside peers, into bench.json
	@.ci/setup.sh bench
	$(PYTHON) -m tests.bench $(ARGS)

bench-quick: ## the same, fewer rounds
	@.ci/setup.sh bench
	$(PYTHON) -m tests.bench --quick $(ARGS)

recordings: setup ## record the incident anew, for those who have no root (4 minutes)
	$(PYTHON) tests/console/recordings.py $(ARGS)

pictures: setup ## draw the README's pictures anew, from the recordings that come with cdnctl
	@set -e; for line in "overview incident 36 1" "flood flood 37 1" "cdns incident 36 2 j j"; do \
		read -r name recording at keys <<<"$$line"; \
		.venv/bin/cdnctl cast $$recording --svg --utc --at $$at --press "$$keys" -o $(PICTURES)/$$name.svg; \
	done

goldens: setup ## accept how the console's screens look now: look at `git diff` and the SVGs, then commit
	UPDATE_GOLDENS=1 $(PYTHON) -m pytest tests/console/test_goldens.py -q $(ARGS)
	@git status --short tests/console/goldens

keys: setup ## write the README's tables of keys anew, from the console's own
	$(PYTHON) tests/console/readme.py

clean: ## remove .venv and everything that was generated
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist bench.json
	rm -f snapshot_report.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

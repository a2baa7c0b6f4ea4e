# Everything a person does here, in one place. `make help` lists it.
# Needs Python 3.11 or later and make; the rest is installed into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
# Processes that tests run in: one for each core. 0: this one, for a debugger.
JOBS   ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-spark check format proto bench drill clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.done ## install everything into .venv (the other targets do it by themselves)

$(VENV)/.done: pyproject.toml constraints.txt edge_sdk/pyproject.toml server/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Genome Edge needs Python 3.11 or later; say which one: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once, about a minute) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e ./edge_sdk -e ./server
	@touch $@

demo: $(VENV)/.done ## the whole loop: a hotel guest is offered the taxi, online and offline
	@$(PY) -m examples.demo

test: $(VENV)/.done ## every test but the long ones and those of Spark (JOBS=0 ARGS=... for a few)
	$(PY) -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile -m "not long and not spark" $(ARGS)

test-long: $(VENV)/.done ## the long tests
	$(PY) -m pytest -m long $(ARGS)

$(VENV)/.spark: $(VENV)/.done constraints.txt
	@command -v java >/dev/null || { echo "Spark needs Java 17 or later (openjdk-17-jre-headless)"; exit 2; }
	@echo "installing Apache Spark (once, 450 MB) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e './server[spark]'
	@touch $@

test-spark: $(VENV)/.spark ## genomes on Apache Spark are those of DuckDB and of the SDK
	$(PY) -m pytest -m spark tests/spark $(ARGS)

check: $(VENV)/.done ## lint, types, contract, drift of generated files, import rule, docs
	$(PY) -m tools.check

format: $(VENV)/.done ## let ruff and buf put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

proto: $(VENV)/.done ## generate the stubs and the other derived files anew
	$(PY) tools/generate_stubs.py
	$(PY) tools/make_vectors.py
	$(PY) tools/make_exploration_vectors.py
	$(PY) tools/make_trust_vectors.py
	$(PY) tools/configuration.py
	$(PY) -m tools.import_formats

$(VENV)/.rivals: $(VENV)/.done pyproject.toml constraints.txt
	@echo "installing what decisions are measured against ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	@touch $@

# Builds are measured on Spark, too, where Java is.
bench: $(VENV)/.rivals $(if $(filter build,$(or $(ONLY),build)),$(if $(shell command -v java),$(VENV)/.spark)) ## figures; LONG=1 for those of many minutes, too; ONLY=decide|rivals|during_sync|cold|sync|audience|workers|fanout|ingest|bulk|loop|regret|model|places|routine|regions|neighbours|segments|foresee|towers|segment|things|offpolicy|value|build
	$(PY) -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(LONG),--long)

drill: $(VENV)/.done ## faults on purpose; ONLY=name N=rounds SEED=n ROUND=k SHORT=1
	$(PY) -m tests.drills $(if $(ONLY),--only $(ONLY)) $(if $(N),--rounds $(N)) $(if $(SEED),--seed $(SEED)) \
		$(if $(ROUND),--round $(ROUND)) $(if $(SHORT),--short)

clean: ## take away what was built
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache

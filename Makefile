# slimmoe: `make export PAIR=en-de RATIO=0.75` does everything, set-up included. `make help` lists the rest.
#
# make only forwards: values go to tools/make.py by the environment, and neither make nor a shell ever expands them.
# A value on the command line may hold $(...), which make would run: each becomes its own plain text first.
$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),\
  $(eval override $(name) := $$(value $(name)))$(eval export $(name))$(eval SLIMMOE_GIVEN += $(name))))
export SLIMMOE_GIVEN

RUN := @"$${PYTHON:-python3}" -m tools.make

.PHONY: help setup export report bench sweep translate wheels model curve reproduction peers test pytest test-slow clients fuzz numbers lint clean

help: ## list the targets and their variables
	$(RUN) help

setup: ## environment in .venv, dependencies, llama.cpp
	$(RUN) setup

export: ## prune for PAIR by RATIO, write GGUF and ONNX, verify, measure, report
	$(RUN) export

report: ## the report again: of the sweep where there is one, else of PAIR and RATIO
	$(RUN) report

bench: ## measure the artefacts of PAIR and RATIO again
	$(RUN) bench

sweep: ## export and measure at each of RATIOS in each of TYPES; goes on where it stopped
	$(RUN) sweep

translate: ## translate TEXT with the pruned GGUF file of PAIR and RATIO
	$(RUN) translate

wheels: ## dist/: slimmoe, and the model cut for PAIR by RATIO, as packages for pip
	$(RUN) wheels

model: ## train the default model from packages into WORK (hours; goes on where it stopped)
	$(RUN) model

curve: ## chrF++ by criterion, allocation and ratio, into docs/ (half an hour; needs WORK/corpus of make model)
	$(RUN) curve

reproduction: ## the paper's experiment in four directions (hours; needs WORK/corpus of make model)
	$(RUN) reproduction

peers: ## the pruned model beside other translators (quality) and in every runtime (speed)
	$(RUN) peers

test: setup ## lint, import contracts and tests
	@$(MAKE) --no-print-directory -j2 lint pytest

pytest:
	@env -u MAKEFLAGS .venv/bin/python -m pytest -n auto --maxprocesses=5 --dist=loadfile --no-loadscope-reorder

test-slow: setup ## the tests that take minutes
	@.venv/bin/python -m pip install -q --disable-pip-version-check -e '.[webgpu]'
	@.venv/bin/python -m pytest -m slow

clients: setup ## programs written for LibreTranslate, DeepL and OpenAI, against slimmoe serve (network; 2 minutes)
	@.venv/bin/python -m pytest -m slow tests/server/test_clients.py

fuzz: ## damaged files of every kind that is read, each to give a value or one sentence
	$(RUN) fuzz

lint: setup ## ruff, pyright, the import contracts, and tables that are what was measured
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright
	@.venv/bin/lint-imports
	@.venv/bin/python -m benchmarks.numbers --check

numbers: setup ## write the tables of README and docs again, from docs/numbers
	@.venv/bin/python -m benchmarks.numbers

clean: ## remove runs/ (not .venv)
	@rm -rf runs

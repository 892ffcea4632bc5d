# slimmoe: `make export PAIR=en-de RATIO=0.75` does everything, set-up included. `make help` lists the rest.

# Values become paths and words of shell commands, so what make or a shell would expand, split or run is refused before
# anything reads it. $(value) is the text as it was given; TEXT is free, and goes to the command by the environment.
define NEWLINE :=


endef
HASH := \#
UNSAFE := ' " ` $$ ; & | < > ( ) { } [ ] * ? ~ ! \ $(HASH) %
NAMES := PAIR RATIO RATIOS MODEL QUANT CRITERION CORPUS DEV TEST STEPS METHOD MINUTES TYPES SWEEP OUT VERIFY WORK TOKENS \
  START_COMMIT PYTHON RECOVER RAY
ONE_WORD := $(filter-out RATIOS TYPES,$(NAMES))
MAY_BE_EMPTY := STEPS TOKENS RECOVER RAY SWEEP RATIOS TYPES
given = $(filter command environment,$(firstword $(origin $(1))))
refused = $(error $(1) has $(2), which is not taken here: use letters, digits and . _ - / : only)
check = $(foreach c,$(UNSAFE),$(if $(findstring $(c),$(value $(1))),$(call refused,$(1),the character $(c))))\
  $(if $(findstring $(NEWLINE),$(value $(1))),$(call refused,$(1),a line break))\
  $(if $(filter -%,$(value $(1))),$(call refused,$(1),a leading hyphen))\
  $(if $(filter $(1),$(ONE_WORD)),$(if $(word 2,a$(value $(1))b),$(call refused,$(1),a blank)))\
  $(if $(strip $(value $(1))),,$(if $(filter $(1),$(MAY_BE_EMPTY)),,$(call refused,$(1),no value)))
$(foreach name,$(NAMES),$(if $(call given,$(name)),$(call check,$(name))))
override TEXT := $(if $(call given,TEXT),$(value TEXT),The file could not be opened.)
export TEXT

PAIR ?= en-de
RATIO ?= 0.75
RATIOS ?= 0 0.25 0.5 0.7 0.75 0.9
MODEL ?= models/default
QUANT ?= Q4_K_M
CRITERION ?= gate
CORPUS ?= data/calibration
DEV ?= data/dev
TEST ?= data/test
STEPS ?=
METHOD ?= full
MINUTES ?= 5
TYPES ?= Q4_K_M Q8_0 int4 int8
SWEEP ?= $(OUT)/sweep
OUT ?= runs/$(notdir $(MODEL:/=))-$(PAIR)
VERIFY ?= yes
WORK ?= runs/recipe
TOKENS ?=
START_COMMIT ?= 37595dc7a815aad6f1205c7306817c65388251ba
PYTHON ?= python3

READY := .venv/.ready
SLIMMOE := .venv/bin/slimmoe
RECIPE := .venv/bin/python -m models.recipe
BASE := $(OUT)/unpruned
REPRODUCTION := $(WORK)/reproduction-$(notdir $(MODEL:/=))
RUN := $(OUT)/$(CRITERION)-$(RATIO)$(if $(RECOVER),-recovered$(if $(filter-out full,$(METHOD)),-$(METHOD)))
CUT := $(OUT)/$(CRITERION)-$(RATIO)/checkpoint
FINAL := $(if $(RECOVER),$(RUN)/checkpoint,$(CUT))
NAME := $(notdir $(MODEL:/=))-$(PAIR)
# p75 for a ratio of 0.75; nothing where nothing is cut
SHARE = $(shell awk 'BEGIN { share = sprintf("%.0f", 100 * ARGV[1]); if (share != 0) print "-p" share }' '$(RATIO)' 2>/dev/null)
GGUF := $(RUN)/$(NAME)$(SHARE)-$(QUANT).gguf
ONNX := $(RUN)/onnx
BASE_GGUF := $(BASE)/$(NAME)-$(QUANT).gguf
BASE_ONNX := $(BASE)/onnx
MODEL_FILES := $(wildcard $(MODEL)/config.json $(MODEL)/*.safetensors)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help setup export report bench sweep translate model curve reproduction peers test test-slow fuzz numbers lint clean preflight

help: ## list the targets
	@echo "make export PAIR=en-de RATIO=0.75 [MODEL=folder-or-id] [RECOVER=1 [METHOD=least-squares]] [QUANT=Q4_K_M] [CRITERION=gate] [OUT=folder] [VERIFY=no]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## environment in .venv, dependencies, llama.cpp

$(READY): pyproject.toml constraints.txt tools/setup.py tools/build_llama.py
	@$(PYTHON) -m tools.setup

preflight:
	@$(PYTHON) -m tools.preflight --pair "$(PAIR)" --ratio "$(RATIO)" --model "$(MODEL)"

export: preflight $(READY) ## prune for PAIR by RATIO, write GGUF and ONNX, verify, measure, report
	@if $(MAKE) -q --no-print-directory $(RUN)/report.md 2>/dev/null; then \
	  echo "Nothing to do: $(RUN)/report.md is up to date (rm -r $(RUN) to do it again)."; \
	else $(MAKE) --no-print-directory $(RUN)/report.md; fi

$(OUT)/stats.safetensors: $(MODEL_FILES) | $(READY)
	@$(SLIMMOE) calibrate $(MODEL) --pair $(PAIR) --corpus $(CORPUS) -o $@

$(OUT)/$(CRITERION)-$(RATIO)/plan.json: $(OUT)/stats.safetensors
	@$(SLIMMOE) plan $< --ratio $(RATIO) --criterion $(CRITERION) -o $@

$(CUT)/config.json: $(OUT)/$(CRITERION)-$(RATIO)/plan.json
	@rm -rf $(CUT)
	@$(SLIMMOE) prune $(MODEL) --plan $< -o $(CUT)
	@touch $@

ifdef RECOVER
$(RUN)/plan.json: $(OUT)/$(CRITERION)-$(RATIO)/plan.json
	@mkdir -p $(RUN) && cp $< $@

$(FINAL)/config.json: $(CUT)/config.json $(RUN)/plan.json
	@rm -rf $(FINAL)
	@$(SLIMMOE) recover $(CUT) --pair $(PAIR) --corpus $(CORPUS) --dev $(DEV) \
	  --method $(METHOD) $(if $(filter least-squares,$(METHOD)),--teacher $(MODEL)) $(if $(STEPS),--steps $(STEPS)) -o $(FINAL)
	@touch $@
endif

$(GGUF): $(FINAL)/config.json
	@$(SLIMMOE) gguf $(FINAL) --quant $(QUANT) --pair $(PAIR) --corpus $(CORPUS) -o $@

$(ONNX)/config.json: $(FINAL)/config.json
	@rm -rf $(ONNX)
	@$(SLIMMOE) onnx $(FINAL) --quant int4 -o $(ONNX)
	@touch $@

$(BASE_GGUF): $(MODEL_FILES) | $(READY)
	@$(SLIMMOE) gguf $(MODEL) --quant $(QUANT) --pair $(PAIR) --corpus $(CORPUS) -o $@

$(BASE_ONNX)/config.json: $(MODEL_FILES) | $(READY)
	@rm -rf $(BASE_ONNX)
	@$(SLIMMOE) onnx $(MODEL) --quant int4 -o $(BASE_ONNX)
	@touch $@

# The cut is compared with the masked original, the unquantised artefacts with the cut, the quantised ones too.
$(RUN)/verify.json: $(CUT)/config.json $(GGUF) $(ONNX)/config.json
	@rm -rf $(RUN)/exact $@.part
	@$(SLIMMOE) gguf $(FINAL) --quant F32 -o $(RUN)/exact/model-F32.gguf
	@$(SLIMMOE) onnx $(FINAL) --quant none -o $(RUN)/exact/onnx
	@$(SLIMMOE) verify $(CUT) --against $(MODEL) --pair $(PAIR) --corpus $(DEV) -o $@.part > /dev/null
	@for artefact in $(RUN)/exact/model-F32.gguf $(RUN)/exact/onnx $(GGUF) $(ONNX); do \
	  $(SLIMMOE) verify $$artefact --against $(FINAL) --pair $(PAIR) --corpus $(DEV) -o $@.part > /dev/null || exit 1; done
	@rm -rf $(RUN)/exact
	@mv $@.part $@
	@echo "verified: the cut equals the masked model, both formats equal the cut: $@"

$(RUN)/bench.jsonl: $(if $(filter no,$(VERIFY)),$(GGUF) $(ONNX)/config.json,$(RUN)/verify.json) $(BASE_GGUF) $(BASE_ONNX)/config.json
	@$(SLIMMOE) bench $(BASE_GGUF) $(BASE_ONNX) $(GGUF) $(ONNX) --pair $(PAIR) --test $(TEST) -o $@

$(RUN)/report.md: $(RUN)/bench.jsonl
	@$(SLIMMOE) report $(RUN) -o $(RUN)/report.html > /dev/null
	@$(SLIMMOE) report $(RUN) -o $@

report: preflight ## the report again, as a page: of the sweep where there is one, else of PAIR and RATIO
	@if [ -f $(SWEEP)/bench.jsonl ]; then $(SLIMMOE) report $(SWEEP) -o $(SWEEP)/report.html; else \
	  $(MAKE) --no-print-directory $(RUN)/bench.jsonl && $(SLIMMOE) report $(RUN) -o $(RUN)/report.md && \
	  $(SLIMMOE) report $(RUN) -o $(RUN)/report.html; fi

bench: preflight ## measure the artefacts of PAIR and RATIO again
	@rm -f $(RUN)/bench.jsonl
	@$(MAKE) --no-print-directory $(RUN)/report.md

sweep: preflight $(READY) ## export and measure at each of RATIOS in four types (RECOVER=1: mended as well); goes on where it stopped
	@$(SLIMMOE) sweep $(MODEL) --pair $(PAIR) $(RATIOS:%=--ratio %) --criterion $(CRITERION) $(TYPES:%=--type %) \
	  $(if $(RECOVER),--recover both) $(if $(STEPS),--steps $(STEPS)) --corpus $(CORPUS) --dev $(DEV) --test $(TEST) \
	  $(if $(RAY),--ray $(RAY)) -o $(SWEEP)
	@$(SLIMMOE) report $(SWEEP) -o $(SWEEP)/report.html

translate: export ## translate TEXT with the pruned GGUF of PAIR and RATIO
	@$(SLIMMOE) translate $(GGUF) --pair $(PAIR) -- "$$TEXT"

# The training starts from the weights of the first default model, which START_COMMIT holds. WORK=runs/trial TOKENS=2e5
# tries every step of it without the hours; a run that has ended does not go on, so it has a folder of its own.
model: $(READY) ## train the default model anew from packages into WORK (hours; goes on where it stopped)
	@$(RECIPE).corpus $(WORK)
	@$(RECIPE).prepare $(WORK)
	@mkdir -p $(WORK)/start
	@git archive $(START_COMMIT) models/default | tar -x -C $(WORK)/start --strip-components=2 || \
	  { echo "The first model is not in this clone's history.  next: git fetch --unshallow"; exit 1; }
	@$(RECIPE).train $(WORK) --start $(WORK)/start $(if $(TOKENS),--tokens $(TOKENS))
	@$(SLIMMOE) gguf $(WORK)/run/final --quant F16 -o $(WORK)/model-F16.gguf
	@$(RECIPE).score $(WORK)/model-F16.gguf $(WORK)
	@$(RECIPE).specialisation $(WORK)/run/final $(WORK) -o $(WORK)/specialisation.png
	@$(RECIPE).balance $(WORK)/run/final $(WORK)

curve: $(READY) ## chrF++ by criterion, allocation and ratio, into docs/ (half an hour; needs WORK/corpus of make model)
	@.venv/bin/python -m benchmarks.criteria $(WORK)/corpus --every 2 -o $(WORK)/criteria.jsonl
	@.venv/bin/python -m benchmarks.criteria_report $(WORK)/criteria.jsonl -o docs/pruning

reproduction: $(READY) ## the paper's experiment in four directions (hours; needs WORK/corpus of make model)
	@.venv/bin/python -m benchmarks.reproduction $(WORK)/corpus --model $(MODEL) -o $(REPRODUCTION)
	@.venv/bin/python -m benchmarks.reproduction_report $(REPRODUCTION) \
	  $(if $(filter models/default,$(MODEL)),-o docs/reproduction.png,\
	  -o $(REPRODUCTION)/reproduction.png --numbers $(REPRODUCTION)/compared.jsonl)

.peers/.ready: benchmarks/peers/requirements.txt benchmarks/peers/package.json | $(READY)
	@.venv/bin/python -m benchmarks.peers.environment

peers: preflight $(READY) .peers/.ready $(FINAL)/config.json ## the pruned model in every runtime: speed side by side, tokens
	@.venv/bin/python -m benchmarks.peers $(FINAL) --pair $(PAIR) --corpus $(CORPUS) --dev $(DEV) -o $(RUN)/peers

test: lint ## lint, import contract and tests
	@.venv/bin/python -m pytest

test-slow: $(READY) ## the tests that take minutes
	@.venv/bin/python -m pytest -m slow

fuzz: $(READY) ## damaged GGUF files for MINUTES, each to be cut or refused in one sentence
	@.venv/bin/python -m benchmarks.fuzz_gguf --minutes $(MINUTES)

lint: $(READY) ## ruff, pyright, the import contract, and tables that are what was measured
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright
	@.venv/bin/lint-imports
	@.venv/bin/python -m benchmarks.numbers --check

numbers: $(READY) ## write the tables of README and docs again, from docs/numbers
	@.venv/bin/python -m benchmarks.numbers

clean: ## remove runs/ (not .venv)
	@rm -rf runs

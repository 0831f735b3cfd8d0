# `make demo` and `make test` work from a fresh clone: they make a virtual environment beside the sources.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-gpu check types clean

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP) ## the demo model to fp32, fp16 and int8, gated, with a report in out/demo
	$(BIN)/posert build --arch hrnet_demo --weights demo --precision fp32,fp16,int8 \
		--output out/demo/hrnet_demo.pose --report out/demo
	$(BIN)/posert verify out/demo/hrnet_demo.pose

test: $(STAMP) ## the whole suite
	$(BIN)/python -m pytest -q

# On a machine whose Python has the GPU's libraries: make test-gpu BIN=$$(dirname $$(which python3)) STAMP=
test-gpu: $(STAMP) ## what only a GPU can show, and the kernels under compute-sanitizer where it is installed
	$(BIN)/python -m pytest -q -rs tests/runtime/cuda
	@if command -v compute-sanitizer >/dev/null; then for tool in memcheck racecheck initcheck synccheck; do \
		echo "compute-sanitizer $$tool"; compute-sanitizer --tool $$tool --error-exitcode 1 \
		$(BIN)/python -m pytest -q tests/runtime/cuda/test_kernels.py \
		-k "gpu and (crops or formats or decoding or flip_merge)" || exit 1; done; \
	else echo "compute-sanitizer is not installed: skipped"; fi

check: $(STAMP) types ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=build/typing $(BIN)/lint-imports

# mypy reads paths, not import hooks: it is shown the root under its package name.
build/typing/posert:
	mkdir -p build/typing && ln -sfn ../.. $@

types: $(STAMP) build/typing/posert
	$(BIN)/mypy

clean:
	rm -rf build out *.egg-info

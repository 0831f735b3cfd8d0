# `make demo` and `make test` work from a fresh clone: they make a virtual environment beside the sources.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# `make test HYPOTHESIS=ci` draws more examples. WORKERS: processes that run tests, one per core.
HYPOTHESIS ?= local
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --hypothesis-profile=$(HYPOTHESIS)

.PHONY: demo test campaign test-slow test-pages test-gpu test-tensorrt test-triton engines check types docs dist release clean

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP) ## the demo model to fp32, fp16 and int8, gated, with a report in out/demo
	$(BIN)/posert build --arch hrnet_demo --weights demo --precision fp32,fp16,int8 \
		--output out/demo/hrnet_demo.pose --report out/demo
	$(BIN)/posert verify out/demo/hrnet_demo.pose

test: $(STAMP) ## all but what is marked slow
	$(PYTEST)

# As `make campaign CAMPAIGN="kills --seed 7"`: which part, and with which seed.
CAMPAIGN ?=

campaign: $(STAMP) ## hostile input, kills and long runs by the thousand, see docs/reliability.md; resumes in build/campaign
	$(BIN)/python -m posert.tests.campaign $(CAMPAIGN)

test-slow: $(STAMP) ## what is marked slow; installs the wheel into an empty environment, for which it downloads 100 MB
	$(PYTEST) -m slow

test-pages: $(STAMP) ## of those, every block of README, documentation and examples, and the wheel
	$(PYTEST) -m slow tests/test_readme.py tests/docs tests/examples tests/test_wheel.py

# On a machine whose Python has the GPU's libraries: make test-gpu BIN=$$(dirname $$(which python3)) STAMP=
test-gpu: $(STAMP) ## what only a GPU can show, and the kernels under compute-sanitizer where it is installed
	$(BIN)/python -m pytest -q -rs tests/runtime/cuda
	@if command -v compute-sanitizer >/dev/null; then for tool in memcheck racecheck initcheck synccheck; do \
		echo "compute-sanitizer $$tool"; compute-sanitizer --tool $$tool --error-exitcode 1 \
		$(BIN)/python -m pytest -q tests/runtime/cuda/test_kernels.py \
		-k "gpu and (regions or crops or formats or decoding or flip_merge)" || exit 1; done; \
	else echo "compute-sanitizer is not installed: skipped"; fi

# The bindings of real releases, 1 MB each, whose names the code has to find; see tests/runtime/engines/test_names.py.
WHEELS := build/tensorrt
BINDINGS := tensorrt-cu12-bindings==10.1.0 tensorrt-cu12-bindings==10.3.0 \
	tensorrt-cu12-bindings==10.8.0.43 tensorrt-cu12-bindings==10.16.1.11 tensorrt-cu13-bindings==11.4.0.106

test-tensorrt: $(STAMP) ## compiles the kernels and builds real engines, without a GPU; downloads 200 MB
	$(BIN)/pip install --quiet --disable-pip-version-check nvidia-cuda-nvrtc-cu12==12.9.86 tensorrt_rtx==1.7.1.116
	for wheel in $(BINDINGS); do \
		$(BIN)/pip download --quiet --disable-pip-version-check --no-deps -d $(WHEELS) $$wheel || exit 1; done
	POSERT_TENSORRT_WHEELS=$(WHEELS) $(BIN)/python -m pytest -q -rs \
		tests/runtime/cuda/test_images.py tests/runtime/engines/test_names.py tests/runtime/engines/test_tensorrt_rtx.py

test-triton: $(STAMP) ## a real Triton server on the loopback, on the CPU; downloads 70 MB
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[triton]"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps nvidia-pytriton  # asks for NumPy 1
	$(BIN)/python -m pytest -q -rs -m "slow or not slow" tests/runtime/serving tests/export/formats/test_triton.py

# Of these families alone, such as `make engines FAMILIES="hrnet_w32 mspn_50_1"`; empty: of all.
FAMILIES ?=

engines: $(STAMP) ## engines of every family of networks, without a GPU: the table of docs/engines.md; a few minutes
	$(BIN)/pip install --quiet --disable-pip-version-check tensorrt_rtx==1.7.1.116
	$(BIN)/python -m posert.benchmarks.engines $(FAMILIES)

check: $(STAMP) types ## lint, types, import rules, Dockerfiles, workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=build/typing $(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile docker/jetson/posert/Dockerfile
	$(BIN)/zizmor --offline --no-progress --quiet --min-severity medium .github/workflows

# mypy reads paths, not import hooks: it is shown the root under its package name.
build/typing/posert:
	mkdir -p build/typing && ln -sfn ../.. $@

types: $(STAMP) build/typing/posert
	$(BIN)/mypy

.PHONY: docs
docs: $(STAMP) ## the documentation site, into build/site: no dead link, nothing that a reader's browser fetches elsewhere
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

dist: $(STAMP) ## source distribution and wheel, checked, into dist/
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

release: $(STAMP) ## checks the release and builds what it publishes; prints the two lines that publish it
	$(BIN)/python .ci/release check
	$(MAKE) dist
	$(MAKE) docs
	$(BIN)/python .ci/release lines

clean:
	rm -rf build dist out *.egg-info

# Each target runs one command of 'vargfacenet'; see 'vargfacenet --help'.
BIN := .venv/bin
PYTHON ?=
DATA ?=
BINS ?=
OUT ?=
DEVICES ?=
SET ?=
NETWORK ?= vargfacenet
EPOCH ?=
TEACHER ?=
TEACHER_EPOCH ?=
RECIPE ?=
KIND ?=
SECONDS ?= 60
TARGETS ?=
PYTHONS ?=
TESTS ?=
RIVALS ?=
TORCH ?=
comma := ,
run = $(BIN)/vargfacenet train $(1) $(if $(DATA),--data $(DATA)) $(if $(BINS),--bins $(BINS)) $(if $(OUT),--out $(OUT)) $(if $(DEVICES),--device $(DEVICES)) $(if $(SET),--set $(SET))

.DEFAULT_GOAL := help
.PHONY: help install train-student train-teacher verify bench doctor operators test test-pythons lock fuzz lint format docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed $(if $(filter-out no,$(TORCH)),.venv/torch)  ## make .venv with all dependencies (the newest Python 3.9 to 3.14 found, or PYTHON=; TORCH=1 adds PyTorch)

.venv/installed: requirements/lock.txt setup.py pyproject.toml install.sh
	@./install.sh .venv $(PYTHON)

.venv/torch: .venv/installed install-torch.sh
	@./install-torch.sh .venv $(TORCH)

train-student: install  ## train VarGFaceNet by distillation, on the built-in faces or on DATA= (TEACHER=PREFIX,EPOCH BINS= OUT= DEVICES= RECIPE= SET=)
	$(call run,$(or $(RECIPE),$(if $(DATA),student,demo_student))) $(if $(TEACHER),--teacher $(TEACHER)$(if $(TEACHER_EPOCH),$(comma)$(TEACHER_EPOCH)))

train-teacher: install  ## train a ResNet teacher, on the built-in faces or on DATA= (BINS= OUT= DEVICES= RECIPE= SET=)
	$(call run,$(or $(RECIPE),$(if $(DATA),teacher_r100,demo_teacher)))

verify: install  ## verify networks: PREFIX="runs/x/best,0 y.onnx" BINS="lfw.bin agedb_30.bin", with a report in OUT=runs/verify
	$(BIN)/vargfacenet verify $(if $(PREFIX),$(addsuffix $(if $(EPOCH),$(comma)$(EPOCH)),$(PREFIX)),$(error give PREFIX=, one or more models)) --bins $(if $(BINS),$(BINS),$(error give BINS=, one or more .bin files)) --report $(or $(OUT),runs/verify)

bench: install  ## measure the speed of everything, with figures in OUT=runs/bench (KIND="train infer" NETWORK= SET= RIVALS=1)
	$(BIN)/vargfacenet bench $(KIND) --network $(NETWORK) $(if $(SET),--set $(SET)) $(if $(RIVALS),--rivals) --json $(or $(OUT),runs/bench)/bench.json --plot $(or $(OUT),runs/bench)/bench.png

doctor: install  ## print versions and devices of this machine, and problems with them
	$(BIN)/vargfacenet doctor

operators: install  ## compile the native operators for other machines, which wheels then bring along
	$(BIN)/python -m vargfacenet.operators.build

test: install  ## run the tests in two processes, with PyTorch for CPUs if it can be installed (TESTS="tests/eval -x" for some; TORCH=no)
	@test -f .venv/torch || test "$(TORCH)" = no || ./install-torch.sh .venv cpu || echo "make test: tests of the PyTorch engine are skipped"
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

test-pythons:  ## run the tests in every Python 3.9 to 3.14 of this machine and print a table (PYTHONS="3.9 3.13" for some)
	python3 tests/pythons.py $(PYTHONS)

lock:  ## update requirements/lock.txt from pyproject.toml, for all Pythons (needs uv: pip install uv)
	uv pip compile --universal --python-version 3.9 --upgrade pyproject.toml requirements/lock.in --override requirements/overrides.txt --no-annotate --custom-compile-command 'make lock' --quiet -o requirements/lock.txt
	uv pip compile --universal --python-version 3.10 --upgrade requirements/docs.in --no-annotate --custom-compile-command 'make lock' --quiet -o requirements/docs.txt

fuzz: install  ## fuzz every reader of foreign files, SECONDS=60 each (TARGETS="bin params" for some)
	@test -d .venv/fuzz/atheris || $(BIN)/python -m pip install --quiet --no-deps --target .venv/fuzz 'atheris>=2.2'
	PYTHONPATH=.venv/fuzz $(BIN)/python -m tests.fuzz $(TARGETS) --seconds $(SECONDS)

lint: install  ## check style, formatting, spelling and types
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## build the documentation site into build/docs; warnings are errors
	@test -x build/docs-env/bin/mkdocs || { python3 -m venv build/docs-env && build/docs-env/bin/pip install --quiet -r requirements/docs.txt; }
	NO_MKDOCS_2_WARNING=1 build/docs-env/bin/mkdocs build --strict --quiet
	@echo "open build/docs/index.html"

clean:  ## remove .venv and caches; data sets and runs stay
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache

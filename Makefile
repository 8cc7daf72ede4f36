# `make demo` and `make test` need Python 3.11 and nothing else: they make .venv and install once.
PYTHON ?= python3.11
VENV := .venv/bin
DEMO := runs/demo

.PHONY: demo test test-fast coverage lint clean study study-report bench docs
.SECONDARY:
.DELETE_ON_ERROR:

demo: .venv/installed
	rm -rf $(DEMO)
	$(VENV)/python train.py --config configs/quickstart.yaml run.name=demo
	$(VENV)/python evaluate.py --model $(DEMO) --split test
	$(VENV)/python infer.py --model $(DEMO) --text "Thank you so much, you saved my day!" \
		--text "I can't believe they cancelled it again. Typical." \
		--text "My hands are shaking, the results come tomorrow." \
		--text "The meeting is at ten in room four."
	@echo "The model is in $(DEMO)/model, scores and pictures in $(DEMO)/report, probabilities in $(DEMO)/predictions."
	@echo "Next: $(VENV)/python infer.py --text \"your own words\", or your own data: README.md, \"Your own data\"."

# `make study DATA=path/to/goemotions`: every form of one small backbone and the baseline, then the comparison. Runs that are there are kept.
DATA ?= sample
STUDY ?= runs/study-$(notdir $(DATA:/=))
LORA := lora.r=16 lora.alpha=32 training.learning_rate=1e-3
ifeq ($(DATA),sample)
ROWS := training.epochs=8
FEWER := $(ROWS) data.train_fraction=0.25
else
ROWS := data.train_fraction=0.25
FEWER := data.train_fraction=0.0625
endif
RUNS := tfidf full full-seed1 full-fewer lora nf4
tfidf := --config configs/tfidf.yaml $(ROWS)
full := --config configs/minilm.yaml $(ROWS)
full-seed1 := $(full) training.seed=1
full-fewer := --config configs/minilm.yaml $(FEWER)
lora := $(full) $(LORA)
nf4 := $(full) $(LORA) model.quantization=nf4

bench: .venv/installed-dev
	test -d $(DEMO)/report/test || $(MAKE) demo
	$(VENV)/python -m benchmarks.training_speed --texts emotion/data/sample/train.csv --rows 512 --repeats 1 --output runs/bench/training_speed.json
	$(VENV)/python -m benchmarks.cost_curve --texts emotion/data/sample/train.csv --rows 320 640 1280 --output runs/bench/cost_curve.json
	$(VENV)/python -m benchmarks.cold_start --model $(DEMO) --repeats 2 --output runs/bench/cold_start.json
	$(VENV)/python -m benchmarks.scoring_speed --model $(DEMO) --texts emotion/data/sample/train.csv --rows 1000 --output runs/bench/scoring_speed.json
	$(VENV)/python -m benchmarks.scoring_limits --model $(DEMO) --rows 20000 --kill-rows 2000 --kills 2 --output runs/bench/scoring_limits.json
	$(VENV)/python -m benchmarks.quality_guard --data sample --before HEAD --seeds 1 --output runs/bench/quality_guard.json
	$(VENV)/python -m benchmarks.full_size --output runs/bench/full_size.json
	OMP_NUM_THREADS=1 $(VENV)/python -m benchmarks.kill_and_resume --kills 8 --output runs/bench/kill_and_resume.json

study: .venv/installed
	@started=$$(date +%s); $(MAKE) --no-print-directory study-report; status=$$?; \
		echo "make study took $$((($$(date +%s) - started) / 60)) minutes"; exit $$status

study-report: $(RUNS:%=$(STUDY)/%/report/test/speed.json)
	$(VENV)/python compare.py $(RUNS:%=$(STUDY)/%) --output $(STUDY)/report

$(STUDY)/%/report/test/speed.json: $(STUDY)/%/efficiency.json
	$(VENV)/python evaluate.py --model $(STUDY)/$* --split test

$(STUDY)/%/efficiency.json: | .venv/installed
	$(VENV)/python train.py $($*) data.source=$(DATA) run.folder=$(STUDY) run.name=$* tracking.backend=none --resume

test: lint
	$(VENV)/python -m pytest

# For the edit loop, under a minute: all but the tests that take seconds each.
test-fast: .venv/installed-dev .venv/installed-docs
	$(VENV)/python -m pytest -m "not slow"

coverage: .venv/installed-dev
	$(VENV)/python -m pytest --cov=$(CURDIR) --cov-report=term --cov-report=html

lint: .venv/installed-dev .venv/installed-docs
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/codespell

docs: docs/settings.md .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict --quiet
	@echo "Open site/index.html; for the search: $(VENV)/python -m http.server --directory site"

# The table below the marker in docs/settings.md is what `train.py --keys` prints.
docs/settings.md: emotion/config/settings.py emotion/config/loading.py | .venv/installed
	{ sed '/^<!-- below this line/q' $@; echo; $(VENV)/python train.py --keys; } > $@.new
	mv $@.new $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info .coverage* htmlcov site

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(VENV)/pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt requirements-onnx.txt .venv/installed
	$(VENV)/pip install --quiet -r requirements-onnx.txt -r requirements-dev.txt
	touch $@

.venv/installed-docs: requirements-docs.txt | .venv/bin/python
	$(VENV)/pip install --quiet -r requirements-docs.txt
	touch $@

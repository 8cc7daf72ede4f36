# `make demo` and `make test` need Python 3.11 and nothing else: they make .venv and install once.
PYTHON ?= python3.11
VENV := .venv/bin
DEMO := runs/demo

.PHONY: install demo app test test-fast test-desks coverage lint clean study study-real bench docs
.SECONDARY:
.DELETE_ON_ERROR:

install: .venv/installed

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

# The page in the browser, with the newest finished run or else the bundled model.
app: .venv/installed-app
	$(VENV)/python app.py

# The models of a study on GoEmotions or, without DATA, on the bundled corpus, and their comparison. Finished runs are kept.
DATA ?= sample
STUDY ?= runs/study-$(notdir $(DATA:/=))

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
	$(VENV)/python -m benchmarks.study --data $(DATA) --output $(STUDY) $(if $(filter sample,$(DATA)),--fraction 1 --epochs 8)

# Also mpnet (110M) and Gemma 3 270M; about six hours on two cores for GoEmotions.
study-real: .venv/installed .venv/installed-backbones
	$(VENV)/python -m benchmarks.study --data $(DATA) --output $(STUDY) --runs real $(if $(filter sample,$(DATA)),--fraction 1 --epochs 8)

test: lint
	$(VENV)/python -m pytest

# For the edit loop, a minute or two: all but the tests that take seconds each.
test-fast: .venv/installed-dev .venv/installed-docs
	$(VENV)/python -m pytest -m "not slow"

# Every test without what only Linux has (`tests/desks/`), with streams of cp1252, in the C locale and from another folder.
test-desks: .venv/installed-dev .venv/installed-docs
	cd "$$(mktemp -d)" && PYTHONPATH=$(CURDIR)/tests/desks PYTHONIOENCODING=cp1252 LC_ALL=C \
		$(CURDIR)/$(VENV)/python -m pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) $(CURDIR)/tests

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

docs/settings.md: emotion/config/settings.py emotion/config/loading.py | .venv/installed
	{ sed '/^<!-- below this line/q' $@; echo; $(VENV)/python -c 'from emotion.config import format_keys_table; print(format_keys_table())'; } > $@.new
	mv $@.new $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info .coverage* htmlcov site

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(VENV)/pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: requirements-app.txt requirements-dev.txt requirements-excel.txt requirements-onnx.txt requirements-serve.txt .venv/installed
	$(VENV)/pip install --quiet -r requirements-onnx.txt -r requirements-excel.txt -r requirements-app.txt -r requirements-serve.txt \
		-r requirements-dev.txt
	touch $@

.venv/installed-backbones: requirements-backbones.txt .venv/installed
	$(VENV)/pip install --quiet -r requirements-backbones.txt
	touch $@

.venv/installed-app: requirements-app.txt .venv/installed
	$(VENV)/pip install --quiet -r requirements-app.txt
	touch $@

.venv/installed-docs: requirements-docs.txt | .venv/bin/python
	$(VENV)/pip install --quiet -r requirements-docs.txt
	touch $@

# `make demo` and `make test` need Python 3.11 and nothing else: they make .venv and install once.
PYTHON ?= python3.11
VENV := .venv/bin
DEMO := runs/demo

.PHONY: demo test lint clean

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

test: .venv/installed-dev lint
	$(VENV)/python -m pytest

lint: .venv/installed-dev
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(VENV)/pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt requirements-onnx.txt .venv/installed
	$(VENV)/pip install --quiet -r requirements-dev.txt
	touch $@

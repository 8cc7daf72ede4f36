"""Comparison of several runs: accuracy with confidence intervals and tests, cost, scaling and errors.

`runs` holds what a comparison needs of a run. `accuracy`, `costs` and `failures` compute. `figures` draws, `conclusion` writes
the summary, `document` writes Markdown, HTML and CSV, and `report` puts all of it together.
"""

"""Several runs -> one report: how good, how sure, at what cost, and where they fail.

`runs` holds what was read of them, `accuracy`, `costs` and `failures` turn it into tables, `figures` draws,
`conclusion` puts it into words, `document` writes it as Markdown, HTML and CSV, `report` puts all together.
"""

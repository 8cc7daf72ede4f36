"""The page in the browser: try a text, score a file, look at a model. `app.py` serves it."""

"""Load a backbone, put a classification head on it, and predict with it."""

"""Files and Hub data sets -> `Examples`. Bad rows are quarantined with file:line, never guessed at.

`opening` and `formats` turn bytes into `rows`, `tables` holds a file of them and `streams` gives several in turn, `layout` finds
the text and the labels in them, `sources` knows where the splits are.
"""

from emotion.data.reading.sources import Dataset, Examples, read_dataset, read_examples

__all__ = ["Dataset", "Examples", "read_dataset", "read_examples"]

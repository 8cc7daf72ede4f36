"""Read labelled rows from files and Hub datasets. Rows that cannot be read are reported with file and line, never repaired.

`opening`, `formats`, `records` (csv) and `parquet` parse the bytes of a file to `rows`; `tables` reads one file into memory, `streams`
reads several files one after another; `layout` finds the text and label columns; `sources` finds the splits and returns `Dataset` and
`Examples`; `labelled_rows` reads the rows that a trained model is judged on; `predictions` reads what a model of others predicted.
"""

from emotion.data.reading.examples import Dataset, Examples
from emotion.data.reading.sources import read_dataset, read_examples

__all__ = ["Dataset", "Examples", "read_dataset", "read_examples"]

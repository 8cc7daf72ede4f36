"""From files and Hub datasets to tokenized batches: reading, splitting, batching and padding."""

"""From files and Hub data sets to batches of tokens."""

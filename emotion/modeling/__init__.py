"""From a backbone to a classifier with a native head."""

"""From a model folder to the emotions of a text."""

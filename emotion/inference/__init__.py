"""From a model folder to the emotions of texts."""

"""Several processes and nodes: how they were launched, what they tell one another, a model in shards."""

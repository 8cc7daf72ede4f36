"""Plan a run before it starts (`train.py --dry-run`)."""

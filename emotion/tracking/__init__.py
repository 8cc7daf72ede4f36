"""The files of a run, its cost, and mirrors of its log in experiment trackers."""

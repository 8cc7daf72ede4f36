"""Analyses of scored rows."""

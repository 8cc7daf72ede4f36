"""Scoring of files of any size: parts, their manifest, and the formats of the output."""

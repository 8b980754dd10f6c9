"""Exports the evidence of a run to a folder that can be checked without this package."""

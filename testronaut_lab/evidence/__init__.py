"""Evidence of a run in a folder, for those who judge it without this package."""

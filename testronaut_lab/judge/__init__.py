"""Compares what a step did with what its plan expects."""

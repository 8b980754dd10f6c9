"""The accepted output of a step, kept as readable files beside the plans."""

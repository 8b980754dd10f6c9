"""The command line: a module for each group of verbs, wired to what does the work. Parsing, printing and statuses only."""

from testronaut_lab.cli.main import main as main

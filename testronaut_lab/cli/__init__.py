"""The command line, a module for each group of verbs. It parses, prints and sets exit statuses; other packages do the work."""

from testronaut_lab.cli.main import main as main

"""`python -m testronaut_lab.cli` is the command line."""

from testronaut_lab.cli.main import main

main()

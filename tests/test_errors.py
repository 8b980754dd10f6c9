"""What errors are called in results, and the exit statuses that they lead to."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import testronaut_lab
from testronaut_lab.errors import ErrorKind, ExitStatus, LabError


def classes(above: type[LabError] = LabError) -> Iterator[type[LabError]]:
    yield above
    for below in above.__subclasses__():
        yield from classes(below)


def test_a_class_of_errors_is_called_by_its_own_name_in_results() -> None:
    for module in pkgutil.walk_packages(testronaut_lab.__path__, "testronaut_lab."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    ours = [each for each in classes() if each.__module__.startswith("testronaut_lab.")]
    assert [each.__name__ for each in ours] == [each.kind.value for each in ours]


def test_a_kind_is_the_text_that_is_stored_and_knows_its_status() -> None:
    assert ErrorKind("SessionLost") is ErrorKind.SESSION_LOST
    assert (f"{ErrorKind.INSTALL}", ErrorKind.INSTALL.exit_status) == ("InstallError", ExitStatus.INSTALL)

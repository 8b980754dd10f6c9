"""The rules of who may import whom, read from the code itself, and what importing the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "testronaut_lab"

# A foreign package, and where alone it may be imported.
HOMES = {
    "docker": ("container/",),
    "watchfiles": ("capture/watcher.py",),
    "textual": ("ui/tui/",),
    "ipywidgets": ("ui/notebook/",),
    "IPython": ("ui/notebook/",),
    "pytest": ("pytest_plugin/",),
    "syrupy": ("pytest_plugin/",),
    "sqlalchemy": ("store/",),
    "pyte": ("execution/sidecar/screen.py",),
}

# Our parts, the lowest first. A part imports only what is in a lower line, at run time, for types and by `import_module` alike.
LAYERS = (
    ("safetext",),
    ("errors",),
    ("model",),
    ("config", "eventlog", "capture", "container"),
    ("golden",),
    ("installation", "judge", "store", "report"),
    ("evidence", "planfile", "execution"),
    ("run", "maintenance"),
    ("recording",),
    ("api",),
    ("ui", "pytest_plugin"),
    ("cli",),
    ("",),  # the package itself, which only names what can be had from it
)

# What a part must not see although it lies below.
WALLS = {
    "execution": ("golden", "judge", "report", "store"),
    "recording": ("container", "capture", "installation"),
    "ui": ("container", "execution.driver", "store", "capture", "installation"),
    "pytest_plugin": ("container", "execution.driver", "store", "capture", "installation"),
    "evidence": ("container", "capture", "installation", "judge"),
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, also those inside functions; `import a.b` and `from a import b` are a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imported_by_string(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every module of ours that is named in a string, as `import_module` and monkeypatching do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("testronaut_lab."):
            yield node.lineno, node.value


def runtime_imports(tree: ast.Module) -> Iterator[str]:
    """What is imported when the module is, type-checking blocks and functions left out."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name for _, name in imported(ast.Module([node], [])))


def test_foreign_packages_are_imported_only_where_they_live() -> None:
    offences = [
        f"{path}:{line} imports {name}"
        for path, tree in sources()
        for line, name in imported(tree)
        for package, homes in HOMES.items()
        if name.split(".")[0] == package and not path.startswith(homes)
    ]
    assert [] == offences


def floor(name: str) -> int:
    """The line of LAYERS that a module of ours is in."""
    part = name.split(".")[0]
    return next(i for i, parts in enumerate(LAYERS) if part in parts)


def arrows() -> Iterator[tuple[str, str, str]]:
    """Every import of ours from one part to another: where it stands, the module that imports, the name that is imported."""
    for path, tree in sources():
        module = path.removesuffix(".py").removesuffix("__init__").rstrip("/").replace("/", ".")
        for line, name in [*imported(tree), *imported_by_string(tree)]:
            if name.startswith("testronaut_lab."):
                below = name.removeprefix("testronaut_lab.")
                if below.split(".")[0] != module.split(".")[0]:
                    yield f"{path}:{line}", module, below


def test_each_part_imports_only_from_the_parts_below_it() -> None:
    offences = [f"{place} imports {name}" for place, module, name in arrows() if floor(name) >= floor(module)]
    assert [] == offences


def test_walls_within_the_layers_hold() -> None:
    offences = [
        f"{place} imports {name}"
        for place, module, name in arrows()
        if f"{name}.".startswith(tuple(f"{unseen}." for unseen in WALLS.get(module.split(".")[0], ())))
    ]
    assert [] == offences


def test_only_few_files_of_execution_know_more_of_containers_than_their_protocol() -> None:
    """`factory.py` makes what is concrete; a session's directory and what the dead left have their owners on the engine."""
    concrete = ("execution/factory.py", "execution/directory.py", "execution/reap.py")
    offences = [
        f"{place} imports {name}"
        for place, module, name in arrows()
        if module.startswith("execution") and not place.startswith(concrete) and name.startswith(("container", "installation"))
        if not name.startswith(("container.protocol", "container.security"))
    ]
    assert [] == offences


def test_relative_imports_are_not_used() -> None:
    offences = [
        f"{path}:{node.lineno}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert [] == offences


def module_graph() -> dict[str, set[str]]:
    modules = {
        f"testronaut_lab.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}": tree for path, tree in sources()
    }
    known = set(modules)

    def target(name: str) -> str | None:
        return name if name in known else name.rpartition(".")[0] if name.rpartition(".")[0] in known else None

    return {module: {t for name in runtime_imports(tree) if (t := target(name))} - {module} for module, tree in modules.items()}


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = module_graph()
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module not in done:
            for below in sorted(graph[module]):
                visit(below, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("heavy", ["docker", "textual", "ipywidgets", "sqlalchemy", "pytest", "pydantic", "rich", "watchfiles"])
def test_importing_the_package_imports_nothing_heavy(heavy: str) -> None:
    code = f"import sys, testronaut_lab; sys.exit({heavy!r} in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


@pytest.mark.parametrize("engine", ["docker", "testronaut_lab.container", "testronaut_lab.execution", "sqlalchemy"])
def test_reading_a_plan_imports_nothing_that_would_run_it(engine: str) -> None:
    code = f"import sys, testronaut_lab.planfile as p; p.parse_plan; sys.exit({engine!r} in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_importing_the_package_takes_under_150_ms() -> None:
    code = "import time; t = time.perf_counter(); import testronaut_lab; print(time.perf_counter() - t)"
    times = [float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout) for _ in range(3)]
    assert min(times) < 0.150


def test_every_public_name_can_be_had() -> None:
    import testronaut_lab

    assert [] == [name for name in testronaut_lab.__all__ if not hasattr(testronaut_lab, name)]


def test_no_function_is_longer_than_60_lines_and_no_file_than_450() -> None:
    long_functions = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    long_files = [str(path) for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 450]
    assert ([], []) == (long_functions, long_files)


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_what_may_be_foreign_is_printed_and_announced_only_as_safe_text() -> None:
    def is_safe(argument: ast.expr) -> bool:
        return isinstance(argument, ast.Constant) or (
            isinstance(argument, ast.Call) and ast.unparse(argument.func) == "safe_text"
        )

    offences = [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path, tree in sources()
        for node, name in calls(tree)
        if name in ("print", "notify") and isinstance(node.func, ast.Name if name == "print" else ast.Attribute)
        if not all(map(is_safe, node.args))
    ]
    allowed = ("print(table)", "self.notify(self.state.refusal")  # a table of safe cells; words of our own
    assert [] == [offence for offence in offences if not any(each in offence for each in allowed)]


def test_nothing_is_parsed_as_markup_or_as_a_terminal_would() -> None:
    parsing = ("from_markup", "from_ansi", "AnsiDecoder", "render_markup", "HTML")
    offences = [f"{path}:{node.lineno} {name}" for path, tree in sources() for node, name in calls(tree) if name in parsing]
    marked = [
        f"{path}:{node.lineno} markup=True"
        for path, tree in sources()
        for node, _name in calls(tree)
        for keyword in node.keywords
        if keyword.arg == "markup" and ast.unparse(keyword.value) != "False"
    ]
    assert ([], []) == (offences, marked)

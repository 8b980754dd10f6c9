"""Figures of a checkout, as in the table of docs/architecture.md: `python docs/site/figures.py [CHECKOUT]`."""

from __future__ import annotations

import ast
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[int]:
    """The length of each function in lines, from its `def` on, docstring and all."""
    return ((node.end_lineno or 0) - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, Function))


def imports(file: Path, root: Path, names: set[str]) -> set[str]:
    """The modules of the package that a file imports when it is imported itself."""
    package = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else node.module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & names) - {package}


def cycles(root: Path, files: list[Path]) -> int:
    """How many groups of modules import each other, directly or by way of others."""
    module = {file: ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files}
    graph = {module[file]: imports(file, root, set(module.values())) for file in files}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += graph[name]
        return seen

    reached = {name: reach(name) for name in graph}
    return len({frozenset(other for other in reached[name] if name in reached[other]) for name in graph if name in reached[name]})


def comments(file: Path) -> int:
    with tokenize.open(file) as lines:
        return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(lines.readline))


def lines(files: list[Path]) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def main(root: Path) -> None:
    source = sorted((root / "testronaut_lab").rglob("*.py"))
    tests = sorted((root / "tests").rglob("*.py"))
    lengths = [length for file in source for length in functions(ast.parse(file.read_text()))]
    at_the_top = [file for file in (root / "testronaut_lab").glob("*.py") if file.name != "__init__.py"]
    figures = {
        "files": len(source),
        "of them at the top": len(at_the_top),
        "lines": lines(source),
        "lines of the longest file": max(lines([file]) for file in source),
        "functions": len(lengths),
        "lines of a function, median": median(lengths),
        "lines of a function, 90th percentile": quantiles(lengths, n=10)[8],
        "functions over 60 lines": sum(length > 60 for length in lengths),
        "comments per 100 lines": round(100 * sum(map(comments, source)) / lines(source), 1),
        "lines of tests to one of source": round(lines(tests) / lines(source), 2),
        "import cycles": cycles(root, source),
    }
    for name, figure in figures.items():
        print(f"{name:<38}{figure:g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])

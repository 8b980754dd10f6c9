"""Which plans a command line names: targets and node ids as typed, and what stands in the place of a plan's own settings.

Choosing within plans that are loaded is `model/selection.py`; reading them is `planfile/`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from testronaut_lab.config import load_config, plan_root, project_root
from testronaut_lab.errors import UsageError
from testronaut_lab.model.plan import ImageSpec, Plan
from testronaut_lab.model.selection import chosen_steps, select
from testronaut_lab.planfile import find_plans, load_plans, parse_tool
from testronaut_lab.planfile.schema.problems import did_you_mean, nearest


def chosen_plans(
    targets: list[str],
    keyword: str | None,
    image: str | None,
    install: list[str],
    matrix: Sequence[str] = (),
    dispensable: Callable[[Path], bool] = lambda _file: False,
) -> tuple[list[Plan], frozenset[str] | None]:
    """The plans to run, one for each cell, and the steps that node ids chose, None where there are no node ids.

    `targets` are plan files, folders, and PATH::CASE[KEY=VALUE,…]::STEP with a path relative to where one stands, or else to the
    project, as in what is printed. `image` and
    `install` take the place of what the plans say, `matrix` leaves only cells with these KEY=VALUE. Raises UsageError for what
    names nothing, and for a plan that is wrong, but for a `dispensable` one that was only found in a folder.
    """
    if "" in targets:  # as of a variable that is not set; as a path it would be all that is here
        raise UsageError("'' names no plan and no folder", hint="testronaut-lab run .")
    paths, nodeids = _split_targets([_located(target) for target in targets])
    found = find_plans([*paths, *(Path(target.partition("::")[0]) for target in nodeids)])
    typed = {path.resolve() for path in (*paths, *(Path(target.partition("::")[0]) for target in nodeids))}
    loaded = in_cells(_loaded(found, lambda file: file.resolve() not in typed and dispensable(file)), matrix)
    full = _whole(paths, loaded) + [_nodeid(target, loaded) for target in nodeids] if nodeids else []
    plans = select(loaded, full, keyword)
    if image is not None:
        plans = [with_image(plan, image) for plan in plans]
    for spec in install:
        plans = [_with_tool(plan, spec) for plan in plans]
    return plans, chosen_steps(loaded, full) if full else None


def _loaded(files: Sequence[Path], dispensable: Callable[[Path], bool]) -> list[Plan]:
    plans: list[Plan] = []
    wrong: list[UsageError] = []
    for file in files:
        try:
            plans += load_plans(file, defaults=load_config(plan_root(file)).defaults)
        except UsageError as error:
            if not dispensable(file):
                raise
            wrong.append(error)
    if not plans:
        raise wrong[0]
    return plans


def installation(specs: list[str], image: str, root: Path) -> Plan:
    """A plan of the project at `root` with tools and without cases. Raises UsageError for what is no spec, or one name twice."""
    tools = tuple(map(parse_tool, specs))
    names = [tool.name for tool in tools]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(f"installing {twice[0]} twice: each tool has a name of its own", hint="{name: NAME, install: SPEC}")
    return Plan(f"install {' '.join(names)}", root, ImageSpec(image), (), tools=tools)


def in_cells(plans: Sequence[Plan], filters: Sequence[str]) -> list[Plan]:
    """The plans whose cell has, of each key that is filtered by, one of the values given: KEY=VALUE, as written in the matrix.

    Raises UsageError for what is no filter, for a key or value that no cell has, and when no cell is left.
    """
    wanted: dict[str, set[str]] = {}
    for text in filters:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"--matrix {text!r}: expected KEY=VALUE", hint=_filters_that_fit(plans))
        _check_filter(key, value, plans)
        wanted.setdefault(key, set()).add(value)
    left = [plan for plan in plans if all(dict(plan.cell).get(key) in values for key, values in wanted.items())]
    if not left:
        raise UsageError(f"no cell has all of --matrix {' --matrix '.join(filters)}", hint=_filters_that_fit(plans))
    return left


def with_image(plan: Plan, image: str) -> Plan:
    """The plan in another image. Raises UsageError where the matrix decides on it: the cell would not be what it is called."""
    if "image" in plan.of_matrix:
        raise _decided(plan, f"using the image {image}", "the image")
    return replace(plan, image=ImageSpec(image))


def _with_tool(plan: Plan, spec: str) -> Plan:
    tool = parse_tool(spec)
    if f"tools.{tool.name}" in plan.of_matrix:
        raise _decided(plan, f"installing {spec}", f"the tool {tool.name}")
    return replace(plan, tools=(*(each for each in plan.tools if each.name != tool.name), tool))


def _decided(plan: Plan, doing: str, what: str) -> UsageError:
    where = plan.name if plan.file is None else plan.file.name
    key, value = plan.cell[0]
    return UsageError(f"{doing} in {where}: {what} comes from its matrix", hint=f"--matrix {shlex.quote(f'{key}={value}')}")


def _check_filter(key: str, value: str, plans: Sequence[Plan]) -> None:
    keys = {name for plan in plans for name, _ in plan.cell}
    if key not in keys:
        known = did_you_mean(key, keys) or "; no plan here has a matrix"
        raise UsageError(f"--matrix {key}={value}: no matrix has the key {key!r}{known}", hint=_filters_that_fit(plans, key))
    values = {each for plan in plans for name, each in plan.cell if name == key}
    if value not in values:
        near = nearest(value, values)
        raise UsageError(
            f"--matrix {key}={value}: no cell has the {key} {value!r}{did_you_mean(value, values)}",
            hint=f"--matrix {shlex.quote(f'{key}={near}')}",
        )


def _filters_that_fit(plans: Sequence[Plan], key: str | None = None) -> str:
    """What to type for a cell that there is: all of its keys, or the one that is nearest to `key`."""
    cells = [plan.cell for plan in plans if plan.cell]
    if not cells:
        return "testronaut-lab run"
    near = None if key is None else nearest(key, (name for cell in cells for name, _ in cell))
    cell = next(cell for cell in cells if near is None or near in dict(cell))
    return " ".join(f"--matrix {shlex.quote(f'{name}={value}')}" for name, value in cell if near in (None, name))


def _located(target: str) -> str:
    """The target with a path that leads there from where one stands."""
    path, parts, rest = target.partition("::")
    of_project = project_root(Path.cwd()) / path
    return f"{of_project}{parts}{rest}" if os.path.exists(of_project) and not os.path.lexists(path) else target


def _split_targets(targets: list[str]) -> tuple[list[Path], list[str]]:
    """Files and folders to run whole, and node ids to choose from their files."""
    nodeids = [target for target in targets if "::" in target]
    return [Path(target) for target in targets if "::" not in target], nodeids


def _whole(paths: list[Path], plans: list[Plan]) -> list[str]:
    """The cases of the plans that were named as files or by their folders, next to others that were named by node ids."""
    named = [path.resolve() for path in paths]
    files = ((plan, plan.file.resolve()) for plan in plans if plan.file is not None)
    return [case.nodeid for plan, file in files if any(file.is_relative_to(path) for path in named) for case in plan.cases]


def _nodeid(target: str, plans: list[Plan]) -> str:
    """A node id as typed, its path relative to where one stands, in the form that plans have: relative to the project."""
    path, _, rest = target.partition("::")
    for plan in plans:
        if plan.file is not None and plan.file.resolve() == Path(path).resolve():
            return f"{plan.cases[0].nodeid.partition('::')[0]}::{rest}"
    return target

"""Finds the plans that a command line names: targets, node ids, and options that override a plan's settings.

`model/selection.py` chooses within loaded plans; `planfile/` reads them.
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
    """Return the plans to run, one for each cell, and the node ids of the chosen steps; None if no target is a node id.

    `targets` are plan files, folders, and PATH::CASE[KEY=VALUE,…]::STEP. Its path is relative to the current directory, or else
    to the project, as in printed node ids. `image` and `install` override what the plans say. `matrix` keeps only cells with
    these KEY=VALUE.

    Raises UsageError for a target that names nothing, and for a wrong plan. A wrong plan that was only found in a folder is
    left out if it is `dispensable`.
    """
    if "" in targets:  # from an unset variable; as a path it would mean everything here
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
    """Return a plan of the project at `root` with tools and without cases. Raises UsageError for a wrong spec or a repeated
    name.
    """
    tools = tuple(map(parse_tool, specs))
    names = [tool.name for tool in tools]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(f"installing {twice[0]} twice: each tool has a name of its own", hint="{name: NAME, install: SPEC}")
    return Plan(f"install {' '.join(names)}", root, ImageSpec(image), (), tools=tools)


def in_cells(plans: Sequence[Plan], filters: Sequence[str]) -> list[Plan]:
    """Return the plans whose cell matches the filters KEY=VALUE. Several values of one key are alternatives.

    Raises UsageError for a wrong filter, for a key or value that no cell has, and if no cell is left.
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
    """Return the plan with another image. Raises UsageError if its matrix sets the image: the cell's name would be wrong."""
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
    """Return filters for an existing cell: all of its keys, or only the one nearest to `key`."""
    cells = [plan.cell for plan in plans if plan.cell]
    if not cells:
        return "testronaut-lab run"
    near = None if key is None else nearest(key, (name for cell in cells for name, _ in cell))
    cell = next(cell for cell in cells if near is None or near in dict(cell))
    return " ".join(f"--matrix {shlex.quote(f'{name}={value}')}" for name, value in cell if near in (None, name))


def _located(target: str) -> str:
    """Return the target with a path that is valid from the current directory."""
    path, parts, rest = target.partition("::")
    of_project = project_root(Path.cwd()) / path
    return f"{of_project}{parts}{rest}" if os.path.exists(of_project) and not os.path.lexists(path) else target


def _split_targets(targets: list[str]) -> tuple[list[Path], list[str]]:
    """Split targets into files and folders to run whole, and node ids."""
    nodeids = [target for target in targets if "::" in target]
    return [Path(target) for target in targets if "::" not in target], nodeids


def _whole(paths: list[Path], plans: list[Plan]) -> list[str]:
    """Return the cases of plans that are named by file or folder, beside other targets that are node ids."""
    named = [path.resolve() for path in paths]
    files = ((plan, plan.file.resolve()) for plan in plans if plan.file is not None)
    return [case.nodeid for plan, file in files if any(file.is_relative_to(path) for path in named) for case in plan.cases]


def _nodeid(target: str, plans: list[Plan]) -> str:
    """Return a typed node id in the form that plans have: its path relative to the project instead of the current directory."""
    path, _, rest = target.partition("::")
    for plan in plans:
        if plan.file is not None and plan.file.resolve() == Path(path).resolve():
            return f"{plan.cases[0].nodeid.partition('::')[0]}::{rest}"
    return target

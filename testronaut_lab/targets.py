"""Which plans a command line names: targets and node ids as typed, and what stands in the place of a plan's own settings.

Choosing within plans that are loaded is `model/selection.py`; reading them is `planfile/`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from testronaut_lab.config import load_config, project_root
from testronaut_lab.model.plan import ImageSpec, Plan
from testronaut_lab.model.selection import chosen_steps, select
from testronaut_lab.planfile import find_plans, load_plan, parse_tool


def chosen_plans(
    targets: list[str], keyword: str | None, image: str | None, install: list[str]
) -> tuple[list[Plan], frozenset[str] | None]:
    """The plans to run, and the steps that node ids chose, None where there are no node ids.

    `targets` are plan files, folders, and PATH::CASE[::STEP] with a path relative to where one stands. `image` and `install`
    take the place of what the plans say. Raises UsageError for what names nothing, and for a plan that is wrong.
    """
    paths, nodeids = _split_targets(targets)
    found = find_plans([*paths, *(Path(target.partition("::")[0]) for target in nodeids)])
    loaded = [load_plan(path, defaults=load_config(project_root(path)).defaults) for path in found]
    full = _whole(paths, loaded) + [_nodeid(target, loaded) for target in nodeids] if nodeids else []
    plans = select(loaded, full, keyword)
    if image is not None:
        plans = [replace(plan, image=ImageSpec(image)) for plan in plans]
    for tool in map(parse_tool, install):
        plans = [replace(plan, tools=(*(each for each in plan.tools if each.name != tool.name), tool)) for plan in plans]
    return plans, chosen_steps(loaded, full) if full else None


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

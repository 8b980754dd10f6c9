"""Reads plan files. The plan that comes out is `model/plan.py`; `execution/` runs it."""

from testronaut_lab.planfile.identity import slug
from testronaut_lab.planfile.load import (
    SUFFIXES,
    find_plans,
    load_plan,
    load_plans,
    parse_expectations,
    parse_image,
    parse_part,
    parse_plan,
    parse_plans,
    parse_tool,
    plan_schema,
    read_plans,
)

__all__ = [
    "SUFFIXES",
    "find_plans",
    "load_plan",
    "load_plans",
    "parse_expectations",
    "parse_image",
    "parse_part",
    "parse_plan",
    "parse_plans",
    "parse_tool",
    "plan_schema",
    "read_plans",
    "slug",
]

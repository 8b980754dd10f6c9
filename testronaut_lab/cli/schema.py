"""`schema`: prints the JSON Schemas of plans, results and events."""

from __future__ import annotations

from typing import Annotated

import typer

from testronaut_lab.cli import completion
from testronaut_lab.cli.app import Verb, app
from testronaut_lab.cli.console import print_json
from testronaut_lab.errors import UsageError


@app.command(cls=Verb)
def schema(what: Annotated[str, typer.Argument(metavar="|".join(completion.SCHEMAS), autocompletion=completion.schemas)]) -> None:
    """Print the JSON Schema of a plan file, a result or an event."""
    from testronaut_lab.planfile import plan_schema
    from testronaut_lab.report.files.schema import events_schema, result_schema

    schemas = {"plan": plan_schema, "result": result_schema, "events": events_schema}
    if what not in schemas:
        raise UsageError(
            f"there is no schema of {what!r}; there is one of plan, result and events", hint="testronaut-lab schema plan"
        )
    print_json(schemas[what]())

"""How results are shown, by those who know how: `report/` registers itself here when it is imported.

The model imports nothing that shows it. Whoever gets a result from `testronaut_lab.api` has the reports too; where nobody has
registered, a result is shown as its plain text.
"""

from __future__ import annotations

from functools import singledispatch
from html import escape


@singledispatch
def html(value: object) -> str:
    """Return the value as a piece of HTML for a notebook, with everything foreign in it made safe."""
    return f"<pre>{escape(ascii(value))}</pre>"

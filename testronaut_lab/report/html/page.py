"""A run as one HTML file for a browser. It has no scripts and fetches nothing.

`results.py` makes the content; this module adds what a separate file needs around it.
"""

from __future__ import annotations

from html import escape

from testronaut_lab.model.result import RunResult
from testronaut_lab.report.html.results import run_html
from testronaut_lab.safetext import safe_text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{max-width:75rem;margin:1.5rem auto;padding:0 1rem;font-family:system-ui,sans-serif}"
    "summary{cursor:pointer}"
)


def run_page(run: RunResult) -> str:
    """Return the whole document with a trailing newline. Reads the files of large streams and shows their ends."""
    title = escape(safe_text(f"testronaut-lab {run.run}: {run.status.value}"))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title><style>{_STYLE}</style>'
    )
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{run_html(run)}\n</body>\n</html>\n'

"""Draws docs/run.svg, the picture in README.md: a real run in which one golden differs. `python docs/site/picture.py`

It needs an engine. The picture names no font of another host, which rich's own template would load.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

COLUMNS = 128
PLAN = """\
name: jq basics
image: debian:bookworm-slim
tools: [apt:jq]
files: {a.json: '{"x": 1, "list": [3, 1, 2]}'}
cases:
  - id: select
    steps:
      - {id: field, run: jq .x a.json, expect: {stdout: "1\\n", changes: none}}
      - {id: bad-filter, run: "jq '.[' a.json", expect: {exit: 3}}
      - {id: endless, run: "jq -n 'def f: f; f'", timeout: 500ms, expect: {exit: timeout}}
  - id: write
    steps:
      - {id: function, run: 'pick() { jq -c ".$1" a.json; }'}
      - {id: call, run: pick list >list.json, golden: {files: [list.json]}}
      - {id: pretty, run: jq . a.json, golden: true}
"""


def run(*words: str, folder: Path) -> None:
    subprocess.run([Path(sys.executable).parent / "testronaut-lab", *words], cwd=folder, capture_output=True)


def on_a_terminal(*words: str, folder: Path) -> str:
    """What a command writes to a terminal, colours included."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    program = Path(sys.executable).parent / "testronaut-lab"
    with subprocess.Popen([program, *words], cwd=folder, env=environment, stdout=its, stderr=its):
        os.close(its)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # how Linux tells that the other side was closed
            pass
    os.close(ours)
    return said.decode().replace("\r\n", "\n")


def drawn(said: str) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(said.rstrip("\n")))
    svg = console.export_svg(title="testronaut-lab run jq.lab.yaml", unique_id="run")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ".git").mkdir()
        (folder / "jq.lab.yaml").write_text(PLAN)
        run("run", "jq.lab.yaml", "-u", folder=folder)
        (folder / "jq.lab.yaml").write_text(PLAN.replace("jq . a.json", "jq -S . a.json"))
        run("run", "jq.lab.yaml", folder=folder)
        said = on_a_terminal("show", "last", folder=folder)
    lines = [line for line in said.splitlines() if "results in" not in line]
    (Path(__file__).parents[1] / "run.svg").write_text(drawn("\n".join(lines)) + "\n")


if __name__ == "__main__":
    main()

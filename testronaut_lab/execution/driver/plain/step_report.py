"""What the two shells of a step under the plain driver report, in a file that anything in the container may write to.

Sections begin with `@NONCE WORD …`; only the two shells know the nonces. Whatever stands before the first, has another
nonce or comes twice was written by somebody who should not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from testronaut_lab.execution.driver.plain.shell_state import ShellListing


@dataclass(frozen=True, slots=True)
class StepReport:
    """`said` is None for a shell that did not come to its end: it left by exit or exec, or was killed.

    `code` is the shell's exit status, None if nobody could tell it; `child_pid` and `job_pid` are its
    `$$` and `$!`; `has_no_cwd` that the step's own directory is none,
    `had_no_directory` that the session's was gone.
    """

    leader_pid: int | None
    child_pid: int | None
    job_pid: int | None
    code: int | None
    said: ShellListing | None
    has_no_cwd: bool
    had_no_directory: bool
    is_foreign: bool


def read_step_report(data: bytes, leader: str, child: str) -> StepReport:
    """Take a statement apart; `leader` and `child` are the nonces."""
    head, *sections = data.decode(errors="surrogateescape").split("@" + leader + " ")
    heads, is_foreign = _heads(sections)
    of_child = "".join(section.partition("\n")[2] for section in sections)
    before, *parts = of_child.split("@" + child + " ")
    by_name: dict[str, str] = {}
    for part in parts:
        first, _, body = part.partition("\n")
        word, _, rest = first.partition(" ")
        is_foreign = is_foreign or word in by_name or (word in ("B", "J", "S", "P", "G", ".") and bool(body))
        by_name[word] = rest + body
    return StepReport(
        leader_pid=_number(heads, "L"),
        child_pid=_number(by_name, "B"),
        job_pid=_number(by_name, "J"),
        code=_number(heads, "X"),
        said=ShellListing(by_name) if "." in by_name and "S" in by_name else None,
        has_no_cwd="P" in by_name,
        had_no_directory="G" in by_name,
        is_foreign=is_foreign or bool(head or before) or (bool(parts) and "L" not in heads),
    )


def _heads(sections: list[str]) -> tuple[dict[str, str], bool]:
    """The supervising shell's words, and whether it is not they alone."""
    heads: dict[str, str] = {}
    is_foreign = False
    for section in sections:
        first, _, body = section.partition("\n")
        word, _, rest = first.partition(" ")
        is_foreign = is_foreign or word in heads or word not in ("L", "X") or (word == "X" and bool(body))
        heads[word] = rest
    return heads, is_foreign


def _number(words: Mapping[str, str], name: str) -> int | None:
    text = words.get(name, "")
    return int(text) if text.isdecimal() else None

"""What goes into the shell's program for one step, and what of our own words has to be cut from its output again."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import text
from testronaut_lab.execution.driver.fast.shell import Held
from testronaut_lab.execution.driver.fast.text import Feed, Status
from testronaut_lab.execution.driver.fast.witness import Witness
from testronaut_lab.execution.driver.script import RUN_DIR, Command, one_line, quote

NODEID = "TESTRONAUT_LAB"
_LOCKED_LINENO = re.compile(r"\b(?:readonly|declare|typeset)\b[^\n;]*\bLINENO\b")
_FEW_FILES = 12  # `.` needs a descriptor above 9 in dash and busybox


@dataclass(frozen=True, slots=True)
class Reader:
    """The shell that a text is for. `options` as in `$-`; `was_forked`: something of ours has run in it since the last step.

    `avoids_files` says that it should not be made to read a file by `.`, `sees_sleep` whether the host can tell that it waits for
    more, `can_lend` whether its descriptors can be changed. `traced_to` are descriptors above 2 that a trace may go to.
    """

    name: str
    is_bash: bool
    options: str
    status: Status
    was_forked: bool
    avoids_files: bool
    sees_sleep: bool
    can_lend: bool
    traced_to: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """One text as it is sent. `files` were written for it; `stdin` is the file to lend to the shell, `merge` whether its stdout
    is to be its stderr meanwhile.
    """

    data: bytes
    nonce: str
    files: tuple[str, ...] = ()
    cut: tuple[bytes, ...] = ()
    cut_line: bytes | None = None
    renamed: tuple[bytes, bytes] | None = None
    stdin: str | None = None
    merge: bool = False


@dataclass(slots=True)
class Writer:
    """Writes down what a text needs in the run directory."""

    channel: Channel
    keeps_line_number: bool = field(default=False, init=False)
    _returned: set[int] = field(default_factory=set, init=False)

    def plain(self, words: str, reader: Reader, *, is_silent: bool = False) -> Written:
        """Words of ours, sourced, so that `$_` stays what it was. `is_silent`: what they say on stderr is of no interest."""
        name = self._put(words)
        nonce = secrets.token_hex(8)
        line = text.sourcing(f"{RUN_DIR}/{name}", ' "$_"' if reader.is_bash else "")
        traced_to = (2, *reader.traced_to) if is_silent else reader.traced_to
        program = f"{text.untraced(line, traced_to)}\n{self._report(nonce, reader)}"
        return Written(_encoded(program), nonce, (name,))

    def bare(self, line: str, reader: Reader) -> Written:
        """A line of ours that needs no file."""
        nonce = secrets.token_hex(8)
        return Written(_encoded(f"{text.untraced(line, reader.traced_to)}\n{self._report(nonce, reader)}"), nonce)

    def step(self, command: Command, reader: Reader, held: list[Held], witness: Witness | None) -> Written:
        """A step. Raises CaptureError when it cannot be written down."""
        self.keeps_line_number = self.keeps_line_number or _LOCKED_LINENO.search(command.run or "") is not None
        stdin = self._stdin(command.stdin) if command.stdin else None
        if command.argv is not None:
            assert witness is not None
            return self._argv(command, reader, held, stdin, witness)
        assert command.run is not None
        before = text.restoring(
            reader.status, is_bash=reader.is_bash, was_forked=reader.was_forked, traced_to=reader.traced_to,
            returning=self._returning(reader),
        )  # fmt: skip
        if command.isolated:
            return self._isolated(command, reader, before, stdin)
        if self.feed(command, reader) is Feed.LINES:
            return self._lines(command, reader, before, stdin)
        return self._file(command, reader, before, stdin)

    def _returning(self, reader: Reader) -> str | None:
        """The file that returns the status. In bash a trap would hear of it, and `set -e` ends a shell for what `.` returns."""
        code = reader.status.code
        if code < 2 or reader.is_bash or reader.avoids_files or "e" in reader.options:
            return None
        if code not in self._returned:
            self.channel.put(f"s.{code}", _encoded(f"\\return {code}\n"))
            self._returned.add(code)
        return f"{RUN_DIR}/s.{code}"

    @staticmethod
    def feed(command: Command, reader: Reader) -> Feed | None:
        """How a script is sent; None for what is none."""
        if command.run is None or command.isolated:
            return None
        if not reader.can_lend and (command.stdin or command.merge):
            return Feed.FILE
        return text.feed_of(
            command.run,
            is_bash=reader.is_bash,
            options=reader.options,
            avoids_files=reader.avoids_files,
            sees_sleep=reader.sees_sleep,
        )

    def _stdin(self, content: bytes) -> str:
        name = f"i.{secrets.token_hex(8)}"
        self.channel.put(name, content)
        return name

    def forget(self, written: Written) -> None:
        for name in written.files:
            self.channel.remove(name)

    def _lines(self, command: Command, reader: Reader, before: str, stdin: str | None) -> Written:
        assert command.run is not None
        nonce = secrets.token_hex(8)
        report = self._report(nonce, reader, text.numbers_named(command.run))
        body = before + command.run.rstrip("\n") + "\n"
        cut = (_encoded(report), *_some(before))
        return Written(_encoded(body + report), nonce, _named(stdin), cut, stdin=stdin, merge=command.merge)

    def _file(self, command: Command, reader: Reader, before: str, stdin: str | None) -> Written:
        assert command.run is not None
        nonce = secrets.token_hex(8)
        # a forked bash would become the last program of a text that nothing follows, and end with it
        name = self._put(before + command.run + ("\n\n" if reader.is_bash and not reader.sees_sleep else ""))
        path = f"{RUN_DIR}/{name}"
        redirections = (f" <{RUN_DIR}/{stdin}" if stdin else "") + (" 2>&1" if command.merge else "")
        assign = "" if reader.is_bash else f"{_nodeid(command)} "
        line = f"{assign}{text.sourcing(path, redirections)}\n"
        report = self._report(nonce, reader, text.numbers_named(command.run))
        cut = (_encoded(report), _encoded(line), *_some(before))
        renamed = f"{path}: ".encode(), f"{reader.name}: ".encode() if reader.is_bash else b""
        traced = f". {path}\n".encode() if "x" in reader.options else None
        return Written(_encoded(line + report), nonce, (name, *_named(stdin)), cut, traced, renamed)

    def _isolated(self, command: Command, reader: Reader, before: str, stdin: str | None) -> Written:
        nonce = secrets.token_hex(8)
        name = self._put(before + (command.run or ""))
        redirections = f" <{RUN_DIR}/{stdin}" if stdin else ""
        line = text.isolated_text(f"{RUN_DIR}/{name}{redirections}")
        path = f"{RUN_DIR}/{name}: ".encode(), f"{reader.name}: ".encode() if reader.is_bash else b""
        report = self._report(nonce, reader, text.numbers_named(command.run or ""))
        return Written(_encoded(line + report), nonce, (name, *_named(stdin)), renamed=path)

    def _argv(self, command: Command, reader: Reader, held: list[Held], stdin: str | None, witness: Witness) -> Written:
        assert command.argv is not None
        nonce = secrets.token_hex(8)
        taken = {each.fd for each in held}
        spare = next((fd for fd in range(9, 2, -1) if fd not in taken), 9)
        program = text.argv_text(
            command.argv, _nodeid(command), spare, None if stdin is None else f"{RUN_DIR}/{stdin}",
            witness.notice, witness.gate, merge=command.merge, is_bash=reader.is_bash,
        )  # fmt: skip
        report = self._report(nonce, reader)
        return Written(_encoded(program + report), nonce, _named(stdin), (_encoded(program), _encoded(report)))

    def _report(self, nonce: str, reader: Reader, numbers: tuple[str, ...] = ()) -> str:
        return text.report_line(nonce, is_bash=reader.is_bash, keeps_line_number=self.keeps_line_number, numbers=numbers)

    def _put(self, words: str) -> str:
        name = f"t.{secrets.token_hex(8)}"
        self.channel.put_text(name, _encoded(words))
        return name


def has_few_files(most: int) -> bool:
    return 0 <= most < _FEW_FILES


def _nodeid(command: Command) -> str:
    return f"{NODEID}={quote(one_line(command.nodeid))}"


def _named(stdin: str | None) -> tuple[str, ...]:
    return () if stdin is None else (stdin,)


def _some(words: str) -> tuple[bytes, ...]:
    return (_encoded(words),) if words else ()


def _encoded(words: str) -> bytes:
    return words.encode(errors="surrogateescape")

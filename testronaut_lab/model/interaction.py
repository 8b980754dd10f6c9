"""What happens in the terminal of a step, and when a background program counts as ready.

`execution/sidecar/terminal.py` drives the terminal; `execution/sidecar/background.py` keeps the program running.
"""

from __future__ import annotations

from typing import Final

from pydantic.dataclasses import dataclass

from testronaut_lab.model.expect import STRICT, TextExpect

DEFAULT_DEADLINE_S: Final = 10.0

_ESC: Final = "\x1b"
# What the keys send, as in xterm. Cursor keys send SS3 instead of CSI if the program asked for that.
_CURSOR: Final = {"up": "A", "down": "B", "right": "C", "left": "D", "home": "H", "end": "F"}
_EDITING: Final = {"insert": 2, "delete": 3, "page-up": 5, "page-down": 6}
_FUNCTION: Final = {"f1": "OP", "f2": "OQ", "f3": "OR", "f4": "OS"} | {
    f"f{number}": f"[{code}~" for number, code in zip(range(5, 13), (15, 17, 18, 19, 20, 21, 23, 24), strict=True)
}
_PLAIN: Final = {"enter": "\r", "tab": "\t", "esc": _ESC, "space": " ", "backspace": "\x7f", "shift-tab": f"{_ESC}[Z"}
_CONTROL: Final = {f"ctrl-{letter}": chr(ord(letter) & 0x1F) for letter in "abcdefghijklmnopqrstuvwxyz\\]"}
_SENT: Final = (
    _PLAIN
    | _CONTROL
    | {name: f"{_ESC}[{code}~" for name, code in _EDITING.items()}
    | {name: f"{_ESC}{rest}" for name, rest in _FUNCTION.items()}
)
KEYS: Final = tuple(sorted({*_SENT, *_CURSOR}))


def key_bytes(name: str, *, application: bool = False) -> bytes:
    """Return what a key of `KEYS` sends. `application` is the cursor-key mode that full-screen programs ask for."""
    if name in _CURSOR:
        return f"{_ESC}{'O' if application else '['}{_CURSOR[name]}".encode()
    return _SENT[name].encode()


@dataclass(frozen=True, slots=True, config=STRICT)
class Tty:
    """A terminal for one step. `term` is its TERM."""

    cols: int = 80
    rows: int = 24
    term: str = "xterm-256color"


@dataclass(frozen=True, slots=True, config=STRICT)
class AwaitScreen:
    """Wait until the screen, in the form of `screen_text`, holds what is expected."""

    expect: TextExpect
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class AwaitSettled:
    """Wait until nothing new has appeared on the screen for `quiet_s`, counted from the start of the wait."""

    quiet_s: float
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class AwaitOutput:
    """Wait for a match of the regex in the bytes after the last match. A match uses its bytes up."""

    pattern: str
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class SendText:
    """Type this text, exactly; a line ends with the key `enter`."""

    text: str
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class PressKey:
    """Press one of `KEYS`."""

    key: str
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class Resize:
    """Give the terminal another size. SIGWINCH tells its programs."""

    cols: int
    rows: int
    timeout_s: float = DEFAULT_DEADLINE_S


Interaction = AwaitScreen | AwaitSettled | AwaitOutput | SendText | PressKey | Resize


@dataclass(frozen=True, slots=True, config=STRICT)
class Ready:
    """When a background program is ready. Exactly one field is set.

    `port`: a TCP port is listened on inside the container. `log`: its output matches a regex. `file`: a path exists in the
    workspace. `run`: a script ends with status 0; it runs in an exec of its own.
    """

    port: int | None = None
    log: str | None = None
    file: str | None = None
    run: str | None = None
    timeout_s: float = DEFAULT_DEADLINE_S

    @property
    def aspect(self) -> str:
        """Return the name of the field that is set, which is its key in a plan."""
        return next(name for name in ("port", "log", "file", "run") if getattr(self, name) is not None)

    def describe(self) -> str:
        """Say in words what is waited for."""
        match self.aspect:
            case "port":
                return f"port {self.port} listened on"
            case "log":
                return f"output that matches {self.log}"
            case "file":
                return f"a path {self.file} in the workspace"
            case _:
                return f"exit status 0 of `{self.run}`"


def describe_screen(expect: TextExpect) -> str:
    """Say in words what `screentext.shows` looks for."""
    wanted = [f"equal to {expect.equals!r}"] if expect.equals is not None else []
    wanted += [f"with {text!r}" for text in expect.contains]
    wanted += [f"without {text!r}" for text in expect.not_contains]
    wanted += [f"with a match of {expect.matches}"] if expect.matches is not None else []
    wanted += [f"of {expect.lines} lines"] if expect.lines is not None else []
    wanted += ["that is empty" if expect.empty else "that is not empty"] if expect.empty is not None else []
    return "a screen " + ", ".join(wanted)

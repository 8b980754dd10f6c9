"""Output as a hostile tool writes it, every class of it, and what no screen may hold of it."""

from __future__ import annotations

import re
import unicodedata

# One attack each, between marks, so that what became of it can be found again in what a sink shows.
ATTACKS: dict[str, bytes] = {
    "title by OSC 0": b"\x1b]0;pwned\x07",
    "clipboard by OSC 52, BEL": b"\x1b]52;c;cHduZWQ=\x07",
    "clipboard by OSC 52, ST": b"\x1b]52;c;cHduZWQ=\x1b\\",
    "link by OSC 8": b"\x1b]8;;http://evil.example/\x1b\\safe\x1b]8;;\x1b\\",
    "DCS": b'\x1bP$q"p\x1b\\',
    "APC and PM": b"\x1b_x\x1b\\\x1b^x\x1b\\",
    "clear the screen": b"\x1b[2J\x1b[H\x1b[3J",
    "cursor up, erase the line": b"\x1b[1A\x1b[2K",
    "alternate screen": b"\x1b[?1049h\x1b[?25l",
    "reset": b"\x1bc",
    "report of the cursor": b"\x1b[6n",
    "concealed": b"\x1b[8mhidden\x1b[0m",
    "8-bit CSI in UTF-8": "\x9b2J\x9d0;x\x9c".encode(),
    "8-bit CSI as a byte": b"\x9b2J",
    "bidi overrides": "\u202egpj.exe\u202c\u2066x\u2069\u200f".encode(),
    "zero width": "a\u200bb\u2060c\ufeff\u00ad".encode(),
    "tags and private use": "\U000e0041\ue000\u3164".encode(),
    "line separators": "a\u2028b\u2029c\x85d".encode(),
    "markup": b"[bold]x[/nope] [link=http://evil.example]y[/] [/x] [@click=app.quit]q[/]",
    "html": b"<script>alert(1)</script></pre><img src=x onerror=alert(1)> &lt;",
    "lone CR": b"honest\rforged",
    "backspaces": b"honest\x08\x08\x08\x08\x08\x08forged",
    "BEL, NUL, DEL": b"\x07\x00\x7f",
    "shifts, ENQ, VT, FF": b"\x0e\x0f\x05\x0b\x0c",
    "invalid UTF-8": b"\xff\xfe\xc3(\xe2\x82",
    "surrogates": b"\xed\xa0\x80\xed\xbf\xbf",
}
BEGIN, END = "ATTACK<", ">KCATTA"
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def marked(attack: bytes) -> bytes:
    return BEGIN.encode() + attack + END.encode()


def everything() -> bytes:
    """All attacks, one a line, in order."""
    return b"".join(marked(attack) + b"\n" for attack in ATTACKS.values())


def offences(shown: str, *, colours: bool = False) -> list[str]:
    """What of `shown` a terminal would act on or a reader could not see; with `colours` SGR is let pass."""
    text = _COLOUR.sub("", shown) if colours else shown
    return [
        repr(text[max(i - 20, 0) : i + 5])
        for i, char in enumerate(text)
        if unicodedata.category(char) in _UNSEEN and char not in "\n\t"
    ]


def between_marks(shown: str) -> list[str]:
    """What a sink made of each attack that it shows, where it also writes control sequences of its own."""
    return re.findall(f"{re.escape(BEGIN)}(.*?)(?:{re.escape(END)}|…|\n)", shown)

"""Texts that a plan may hold and that are easily written wrong, drawn by Hypothesis: scripts, names, paths."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60) | st.sampled_from([
    "yes", "no", "null", "~", "1e3", "010", "0x1f", ".inf", "1:30", "<<", "=", "- a", "a: b", "a #b", "#", "%", "@x", "`x`",
    "a\r\nb", "\ta", " a", "a ", "a\n", "\n", "\n\na", "a \nb\n", "a\n  b\n\n", "\u2028", "\u202e\n", "\U000e0041",
    "\x85", "\ufeff", "\x7f\x1b[0m",
    "---\n...\n",
    "|", ">", "'", '"', "\\", "{a, b}", "[", "é😀", "# a\n  # b\n", "a\n# b", "!!str a", "&a *a", "2020-01-01", "?",
    "? a", ": ", "x:",
])  # fmt: skip
SCRIPTS = TEXTS.filter(lambda text: text.strip() != "")
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
PARTS = TEXTS.filter(lambda text: text not in (".", "..") and "/" not in text and 0 < len(text.encode()) < 256)

"""How a text comes to the session's shell: as lines of its program, or as a file where its end may be open. Pure functions."""

from __future__ import annotations

import pytest

from testronaut_lab.execution.driver.fast.text import Feed, feed_of

WHOLE = {
    "a here-document": "cat <<E\none\nE\n",
    "a here-document without a newline at its end": "cat <<E\none\nE",
    "a quoted end": "cat <<'E'\none\nE\n",
    "an escaped end": "cat <<\\E\none\nE\n",
    "tabs before the end": "cat <<-E\n\tone\n\tE\n",
    "two in one line": "cat <<A - 3<<B\na\nA\nb\nB\necho on",
    "two with the same end": "cat <<E\nE\ncat <<E\nE\n",
    "a here-string": "cat <<<one",
}
OPEN = {
    "no end": "cat <<E\none\n",
    "an end in the second only": "cat <<E\none\ncat <<E\nE\n",
    "an end before the document": "E\ncat <<E\n",
    "tabs before the end without the sign for it": "cat <<E\n\tE\n",
    "an end of two words": "cat <<'a b'\na b\n",
    "an end with an expansion": "cat <<E$x\nE\n",
    "a document in another": "cat <<A\n<<B\nA\n",
    "a shift, which is none": "echo $((1<<2))",
    "a backslash at the end": "echo a\\",
    "a pipe at the end": "echo a |",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_text_that_is_whole_goes_to_bash_as_lines(name: str) -> None:
    assert feed_of(WHOLE[name], is_bash=True, options="hB", avoids_files=False, sees_sleep=True) is Feed.LINES


@pytest.mark.parametrize("name", OPEN)
def test_a_text_that_may_be_open_is_a_file(name: str) -> None:
    assert feed_of(OPEN[name], is_bash=True, options="hB", avoids_files=False, sees_sleep=True) is Feed.FILE

"""What a terminal shows of what programs write to it, also of what no well-behaved program would write."""

from __future__ import annotations

import pytest

from testronaut_lab.execution.sidecar.screen import Screen


def screen(*pieces: bytes, cols: int = 10, rows: int = 3) -> Screen:
    made = Screen(cols, rows)
    for piece in pieces:
        made.feed(piece)
    return made


def shown(*pieces: bytes, cols: int = 10, rows: int = 3) -> str:
    return screen(*pieces, cols=cols, rows=rows).text()


def test_lines_end_without_their_blanks_and_the_screen_without_blank_lines() -> None:
    assert shown(b"a  \r\n\r\nb\r\n", rows=5) == "a\n\nb\n"


def test_a_screen_that_nothing_was_written_to_is_empty() -> None:
    assert shown() == ""


def test_the_cursor_goes_where_it_is_sent_and_overwrites() -> None:
    assert shown(b"aaa\x1b[2;2Hb\x1b[1;3Hc") == "aac\n b\n"


@pytest.mark.parametrize("cut", range(1, 12))
def test_pieces_may_end_anywhere(cut: int) -> None:
    text = b"\xe2\x82\xac\x1b[2;2Hx\xc3\xa9"
    assert shown(text[:cut], text[cut:]) == "€\n xé\n"


def test_a_full_screen_program_gives_back_what_stood_there_and_where_the_cursor_was() -> None:
    assert shown(b"one\r\ntw\x1b[?1049hfull", b"\x1b[H\x1b[2Jvi\x1b[?1049lo") == "one\ntwo\n"


def test_a_full_screen_program_begins_on_an_empty_screen() -> None:
    assert shown(b"shell\x1b[?1049h\x1b[Hvi") == "vi\n"


def test_a_second_wish_for_the_other_screen_does_not_lose_the_first() -> None:
    assert shown(b"main\x1b[?47hone\x1b[?1049htwo\x1b[?1049l!") == "main!\n"


def test_leaving_a_screen_that_was_not_entered_changes_nothing() -> None:
    assert shown(b"main\x1b[?1049l!") == "main!\n"


def test_a_screen_that_became_smaller_meanwhile_takes_the_cursor_back_within_it() -> None:
    made = screen(b"1\r\n2\r\nabcdefgh\x1b[?1049h")
    made.resize(4, 2)
    made.feed(b"\x1b[?1049l")
    made.feed(b"!")
    assert made.text().splitlines()[1][3] == "!"


def test_a_screen_that_shrinks_scrolls_only_as_far_as_its_cursor_needs() -> None:
    made = screen(b"only", rows=24)
    made.resize(10, 10)
    assert made.text() == "only\n"
    made.feed(b"\r\n2\r\n3\r\n4\r\n5\x1b[2A")
    made.resize(10, 2)
    assert made.text() == "2\n3\n"
    made.feed(b"!")
    assert made.text() == "2\n3!\n"


def test_a_screen_that_grows_again_has_room_below() -> None:
    made = screen(b"1\r\n2\r\n3")
    made.resize(10, 1)
    made.resize(10, 3)
    made.feed(b"\r\n4\r\n5")
    assert made.text() == "3\n4\n5\n"


def test_what_a_full_screen_program_hides_scrolls_with_its_own_cursor() -> None:
    made = screen(b"1\r\n2\r\n3\x1b[?1049h\x1b[H")
    made.resize(10, 2)
    made.feed(b"\x1b[?1049l!")
    assert made.text() == "2\n3!\n"


def test_a_wish_for_132_columns_changes_nothing() -> None:
    assert shown(b"a\x1b[?3hb\x1b[?3l" + b"c" * 9) == "abcccccccc\nc\n"


def test_a_program_hears_where_the_cursor_is() -> None:
    made = screen(b"ab\x1b[6n")
    assert bytes(made.answers) == b"\x1b[1;3R"


def test_keys_are_wanted_in_the_form_that_was_asked_for() -> None:
    assert not screen().wants_application_keys
    assert screen(b"\x1b[?1h").wants_application_keys
    assert not screen(b"\x1b[?1h\x1b[?1l").wants_application_keys


@pytest.mark.parametrize(
    "odd",
    [
        b"\x1b[1;2;3;4;5H\x1b[H",  # more numbers than the sequence takes
        b"\x1b[?5A",  # private, where there is no such form
        b"\x1b[9J\x1b[7K\x1b[5g",  # no such way to erase, no such tab stop
        b"\x1b[12\x18\x1b[3\x1a",  # given up in the middle
        b"\x05\x06\x11\x1d",  # controls that mean nothing
        b"\x1b[99999999D",
    ],
)
def test_a_sequence_that_makes_no_sense_is_left_out(odd: bytes) -> None:
    assert shown(odd + b"text") == "text\n"


def test_a_sequence_that_a_letter_of_another_script_breaks_off_does_not_swallow_it() -> None:
    assert shown("a\x1b[1é".encode()) == "aé\n"


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert shown(b"a\xffb") == "a\N{REPLACEMENT CHARACTER}b\n"


def test_a_character_has_its_marks_but_no_endless_heap_of_them() -> None:
    text = shown(("e" + "\N{COMBINING ACUTE ACCENT}" * 5000 + "f").encode())
    assert text.startswith("\N{LATIN SMALL LETTER E WITH ACUTE}") and text.endswith("f\n")
    assert len(text) < 20


def test_what_has_no_width_and_is_no_mark_is_left_out() -> None:
    assert shown("a\u200bb\u2060c".encode()) == "abc\n"


def test_a_wide_character_takes_two_columns() -> None:
    assert shown("漢\x1b[1;3Hx".encode()) == "漢x\n"


@pytest.mark.parametrize("end", [b"", b"last"])
def test_of_lines_that_scroll_by_the_last_ones_stay(end: bytes) -> None:
    many = b"".join(b"line %d\r\n" % number for number in range(5000))
    assert shown(b"first\r\n" + many + end) == shown(b"line 4997\r\nline 4998\r\nline 4999\r\n" + end)


def test_lines_that_scroll_within_margins_leave_the_rest_alone() -> None:
    many = b"".join(b"line %d\r\n" % number for number in range(2000))
    assert shown(b"top\x1b[2;3r\x1b[2;1H" + many + b"end") == "top\nline 1999\nend\n"
    assert shown(b"\x1b[2;3rtop\r\n" + many + b"end") == "top\nline 1999\nend\n"


def test_a_sequence_right_before_a_long_text_is_heard() -> None:
    assert screen(b"\x1b[?1h" + b"x\r\n" * 3000).wants_application_keys


def test_a_long_text_that_begins_within_a_line_leaves_nothing_of_it() -> None:
    assert shown(b"prompt> ", b"x\r\n" * 3000 + b"y") == "x\nx\ny\n"

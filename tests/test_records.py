"""Records of the session's shells: whole in whatever pieces they come, and told from what anybody else writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.execution.driver.records import Record, RecordReader

SECRET = "5ec4e7"
BODIES = st.binary(max_size=60).filter(lambda body: b"@" not in body).map(lambda body: body + b"\n" if body else b"")
WORDS = st.lists(st.text("abc019-,", min_size=1, max_size=6), max_size=4).map(tuple)
RECORDS = st.lists(st.builds(Record, st.sampled_from("SDKLRP"), WORDS, BODIES), max_size=5)


def written(record: Record) -> bytes:
    head = " ".join((f"@{SECRET}", record.tag, *record.words))
    return head.encode() + b"\n" + record.body + f"@{SECRET} .\n".encode()


def fed(*pieces: bytes) -> tuple[list[Record], RecordReader]:
    reader = RecordReader(SECRET)
    return [record for piece in pieces for record in reader.feed(piece)], reader


@given(RECORDS, st.data())
def test_any_split_gives_the_same_records(records: list[Record], data: st.DataObject) -> None:
    stream = b"".join(written(record) for record in records)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    found, reader = fed(*(stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
    assert found == records
    assert reader.take_foreign() == b""


@given(RECORDS, st.binary(min_size=1, max_size=40).filter(lambda data: b"@" not in data))
def test_what_others_write_before_a_record_is_foreign_and_harmless(records: list[Record], stray: bytes) -> None:
    found, reader = fed(stray + b"".join(written(record) for record in records))
    assert found == records
    assert reader.take_foreign() == stray


def test_a_record_with_another_secret_is_foreign() -> None:
    found, reader = fed(b"@000000 S 1 0 - -\n/\n@000000 .\n")
    assert found == []
    assert reader.take_foreign() != b""


def test_foreign_bytes_are_told_once() -> None:
    _, reader = fed(b"junk\n")
    assert (reader.take_foreign(), reader.take_foreign()) == (b"junk\n", b"")


def test_the_beginning_of_a_record_is_not_foreign_yet() -> None:
    record = Record("S", ("n", "0", "-", "-"), b"/workspace\n")
    reader = RecordReader(SECRET)
    for byte in written(record)[:-1]:
        assert reader.feed(bytes([byte])) == []
        assert reader.take_foreign() == b""
    assert reader.feed(b"\n") == [record]


def test_a_record_whose_writer_was_killed_is_not_taken_for_the_next_ones() -> None:
    torn = written(Record("S", ("n", "0", "-", "-"), b"/workspace\n"))
    whole = Record("D", ("137",), b"")
    for length in range(len(SECRET) + 1, len(torn) - len(SECRET) - 4):
        found, reader = fed(torn[:length] + written(whole))
        assert (found, reader.take_foreign()) == ([whole], b"")


def test_a_head_without_a_tag_is_no_record() -> None:
    assert fed(f"@{SECRET} \n@{SECRET} .\n".encode())[0] == []


def test_a_body_may_hold_anything_but_the_secret() -> None:
    record = Record("S", ("n",), b"/a\n.\n@ .\n\xff\0\n")
    assert fed(written(record))[0] == [record]

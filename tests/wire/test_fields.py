"""What a text must be like to travel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastworker.wire.codec import decode, encode
from fastworker.wire.fields import MAX_TEXT, clip_text
from fastworker.wire.messages import Bye


def test_short_text_is_left_alone() -> None:
    assert clip_text("Grüße ☂") == "Grüße ☂"


def test_long_text_loses_its_middle() -> None:
    clipped = clip_text("begin" + "x" * MAX_TEXT + "end")
    assert len(clipped) == MAX_TEXT
    assert clipped.startswith("begin")
    assert clipped.endswith("end")


@given(st.text(st.characters()), st.integers(10, 40))
def test_any_clipped_text_travels(text: str, limit: int) -> None:
    clipped = clip_text(text + "\udc80", limit)
    assert len(clipped) <= limit
    assert decode(encode([Bye(clipped)])) == [Bye(clipped)]

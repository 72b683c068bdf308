"""What is kept of claims that were drawn."""

from __future__ import annotations

from services.gateway.drawn import Drawn


def test_only_the_state_that_was_drawn_is_found() -> None:
    drawn = Drawn()
    drawn.put("a", "1", b"first")
    assert drawn.get("a", "1") == b"first" and drawn.get("a", "2") is None
    drawn.put("a", "2", b"second")
    assert drawn.get("a", "1") is None
    drawn.forget("a")
    assert drawn.get("a", "2") is None


def test_what_nobody_asked_for_longest_leaves_when_there_is_no_room() -> None:
    drawn = Drawn(most_bytes=10)
    drawn.put("a", "1", b"12345")
    drawn.put("b", "1", b"12345")
    assert drawn.get("a", "1")
    drawn.put("c", "1", b"1")
    assert (drawn.get("a", "1"), drawn.get("b", "1"), drawn.get("c", "1")) == (b"12345", None, b"1")

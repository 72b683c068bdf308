"""Claims as JSON, drawn once for each of their states and not once for each poll.

An entry can be lost but never be wrong: it is found by the state that the records have just told.
"""

from __future__ import annotations

from collections import OrderedDict

_MOST_BYTES = 32 * 1024 * 1024


class Drawn:
    """The latest body of each claim, as long as there is room; those that nobody asked for longest leave first."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._size = 0
        self._bodies: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    def get(self, claim_id: str, tag: str) -> bytes | None:
        known, body = self._bodies.get(claim_id, ("", b""))
        if known != tag:
            return None
        self._bodies.move_to_end(claim_id)
        return body

    def put(self, claim_id: str, tag: str, body: bytes) -> None:
        self.forget(claim_id)
        self._bodies[claim_id] = (tag, body)
        self._size += len(body)
        while self._size > self._most:
            self.forget(next(iter(self._bodies)))

    def forget(self, claim_id: str) -> None:
        self._size -= len(self._bodies.pop(claim_id, ("", b""))[1])

"""Connections that never finish a request's head, or make it endless, are closed: uvicorn itself has no such limit."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 30.0  # from the connection, or from a request's first byte, to the end of its head
HEAD_BYTES = 64 * 1024  # its parser takes heads of any size


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits for what comes before the application hears of a request."""

    head_s = HEAD_S
    _limit: asyncio.TimerHandle | None = None
    _head = 0  # bytes of the head so far

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._limit is None and self._idle():  # the next request on a kept-alive connection begins
            self._wait()
        super().data_received(data)
        if self._limit is not None:  # still in the head
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._give_up()

    def on_headers_complete(self) -> None:
        self._done()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._head = 0
        self._limit = self.loop.call_later(self.head_s, self._give_up)

    def _done(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        self._done()
        if self._idle() and not self.transport.is_closing():
            self.transport.close()

"""Photos that are decoded while their claim is still being accepted, where a worker of this process will want them.

On its way from the upload to a worker a claim waits for the photo store, the records and the queue, all of which leave
a core idle. What is decoded meanwhile is a gift: whoever does not find its photo here opens it from the store.
"""

from __future__ import annotations

import asyncio

from services.common.vision.photo import Photo, open_photo

_KEPT_S = 10.0  # a claim whose worker does not come by then will be opened from the store


class Ahead:
    """Holds at most `places` photos; off, with none, until a worker in this process says that it will `fetch`."""

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._places = 0
        self._photos: dict[str, asyncio.Task[Photo]] = {}

    def fetch(self, places: int) -> None:
        """A worker in this process takes as many photos at once."""
        self._places = places

    def begin(self, photo_id: str, data: bytes) -> None:
        """Decode the photo in a thread, unless as many wait already: then the worker is busy anyway."""
        if len(self._photos) >= self._places:
            return
        task = asyncio.create_task(asyncio.to_thread(open_photo, data, max_pixels=self._max_pixels))
        task.add_done_callback(_heard)
        self._photos[photo_id] = task
        asyncio.get_running_loop().call_later(_KEPT_S, self.forget, photo_id)

    def take(self, photo_id: str) -> asyncio.Task[Photo] | None:
        """The photo, decoded or about to be, if it was begun here. To await it raises PhotoError."""
        return self._photos.pop(photo_id, None)

    def forget(self, photo_id: str) -> None:
        self._photos.pop(photo_id, None)


def _heard(task: asyncio.Task[Photo]) -> None:
    """Who takes a photo that cannot be opened hears of it; where nobody does, nobody needs to."""
    if not task.cancelled():
        task.exception()

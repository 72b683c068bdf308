"""Where photos and the pictures made from them lie: by the photo's id, in a folder or an S3-compatible store.

The same bytes sent twice are kept twice: what belongs to a claim can then be erased with it, exactly and at any time,
without asking who else might need it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal, get_args

import obstore
from obstore.store import LocalStore, from_url

from services.common.serving.errors import NotReady
from services.gateway import ids

Picture = Literal["overlay", "preview"]
PICTURES: tuple[Picture, ...] = get_args(Picture)
_NOTHING = "nothing"  # a key that no id can have


class PhotoStore:
    """Bytes by photo. Keys are made here, from our own ids: no name from outside reaches a path.

    Every method raises NotReady when the store cannot be reached.
    """

    def __init__(self, location: str) -> None:
        """`location`: a folder, or a URL such as s3://bucket/prefix (credentials come from the environment)."""
        self._store: Any
        self._folder = None if "://" in location else Path(location).resolve()
        if self._folder is None:
            self._store = from_url(location)
        else:
            self._store = LocalStore(str(self._folder), mkdir=True)

    async def ping(self) -> None:
        """Raises NotReady when the store does not answer, or its folder is gone."""
        if self._folder is not None:
            if not await asyncio.to_thread(self._folder.is_dir):
                raise _unreachable()
            return
        try:
            await obstore.head_async(self._store, _NOTHING)
        except FileNotFoundError:
            return
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _unreachable() from error

    async def put_photo(self, photo_id: str, data: bytes) -> None:
        """Keep the bytes."""
        await self._put(_photo_key(photo_id), data)

    async def get_photo(self, photo_id: str) -> bytes:
        """Raises LookupError when the bytes are gone."""
        data = await self._get(_photo_key(photo_id))
        if data is None:
            raise LookupError(f"photo {photo_id} is not in the store")
        return data

    async def put_made(self, made_id: str, data: bytes) -> None:
        """Keep a generated picture (by its own id), or what was asked of the generator (by the generation's)."""
        await self._put(_made_key(made_id), data)

    async def get_made(self, made_id: str) -> bytes:
        """Raises LookupError when the bytes are gone."""
        data = await self._get(_made_key(made_id))
        if data is None:
            raise LookupError(f"{made_id} is not in the store")
        return data

    async def put_picture(self, kind: Picture, photo_id: str, data: bytes) -> None:
        """Keep a picture that was derived from a photo of ours."""
        await self._put(_picture_key(kind, photo_id), data)

    async def get_picture(self, kind: Picture, photo_id: str) -> bytes | None:
        return await self._get(_picture_key(kind, photo_id))

    async def erase(self, photo_id: str) -> int:
        """Remove the photo and every picture made from it; answers how many files there were."""
        keys = [_photo_key(photo_id), *(_picture_key(kind, photo_id) for kind in PICTURES)]
        return sum([await self._delete(key) for key in keys])

    async def _delete(self, key: str) -> bool:
        try:
            await obstore.head_async(self._store, key)  # an S3 store says nothing about deleting what is not there
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return False
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _unreachable() from error
        return True

    async def _put(self, key: str, data: bytes) -> None:
        try:
            await obstore.put_async(self._store, key, data)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _unreachable() from error

    async def _get(self, key: str) -> bytes | None:
        try:
            return bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        except FileNotFoundError:
            return None
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _unreachable() from error


def _photo_key(photo_id: str) -> str:
    if not ids.valid("pho", photo_id):
        raise ValueError("not a photo's id")
    return f"photos/{photo_id[-2:]}/{photo_id}"  # two letters keep folders small


def _made_key(made_id: str) -> str:
    if not ids.valid("img", made_id) and not ids.valid("gen", made_id):
        raise ValueError("not the id of a picture or a generation")
    return f"generated/{made_id[-2:]}/{made_id}"


def _picture_key(kind: Picture, photo_id: str) -> str:
    return f"{kind}s/{photo_id}.webp"


def _unreachable() -> NotReady:
    return NotReady("The photo store cannot be reached; send this again a little later")

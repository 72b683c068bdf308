"""Where photos and the pictures made from them lie: by SHA-256 in a folder or an S3-compatible store."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any, Literal

import obstore
from obstore.store import LocalStore, from_url

from services.common.serving.errors import NotReady

Picture = Literal["overlay", "preview"]

_HEX = re.compile(r"[0-9a-f]{64}")


class PhotoStore:
    """Bytes by content. Keys are made here, from hashes and our own ids: no name from outside reaches a path.

    Every method raises NotReady when the store cannot be reached.
    """

    def __init__(self, location: str) -> None:
        """`location`: a folder, or a URL such as s3://bucket/prefix (credentials come from the environment)."""
        self._store: Any
        if "://" in location:
            self._store = from_url(location)
        else:
            self._store = LocalStore(str(Path(location).resolve()), mkdir=True)

    async def put_photo(self, data: bytes) -> str:
        """Keep the bytes and return their SHA-256; the same bytes are kept once."""
        sha256 = await asyncio.to_thread(_sha256, data)
        await self._put(_photo_key(sha256), data)
        return sha256

    async def get_photo(self, sha256: str) -> bytes:
        """Raises LookupError when the bytes are gone."""
        data = await self._get(_photo_key(sha256))
        if data is None:
            raise LookupError(f"photo {sha256} is not in the store")
        return data

    async def put_picture(self, kind: Picture, photo_id: str, data: bytes) -> None:
        """Keep a picture that was derived from a photo of ours."""
        await self._put(f"{kind}s/{photo_id}.webp", data)

    async def get_picture(self, kind: Picture, photo_id: str) -> bytes | None:
        return await self._get(f"{kind}s/{photo_id}.webp")

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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _photo_key(sha256: str) -> str:
    if not _HEX.fullmatch(sha256):
        raise ValueError("not a SHA-256")
    return f"photos/{sha256[:2]}/{sha256}"  # two letters keep folders small


def _unreachable() -> NotReady:
    return NotReady("The photo store cannot be reached; send this again a little later")

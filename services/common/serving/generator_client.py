"""The typed client of the generator: the gateway's only way to it, over a network or in one process."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2
from pydantic import BaseModel, ValidationError

from services.common.serving.clients import _Service
from services.common.serving.generation import Ask, Progress


class HttpGenerator(_Service):
    name = "generator"

    async def check(self, ask: Ask) -> None:
        """Raises Problem where this cannot be drawn, or not now."""
        await self._json("POST", "/v1/check", ask)

    async def start(self, generation_id: str, ask: Ask) -> Progress:
        """Begin, or be told how far the generation with this id is."""
        return self._read(await self._json("PUT", f"/v1/generations/{generation_id}", ask))

    async def progress(self, generation_id: str, *, seen: int, wait_s: float) -> Progress:
        """How far it is, as soon as more than `seen` steps are done. Raises NotFound after a restart."""
        params: dict[str, str | int] = {"seen": seen, "wait": str(wait_s)}
        return self._read(await self._send("GET", f"/v1/generations/{generation_id}", params=params))

    async def picture(self, generation_id: str, number: int) -> bytes:
        """A marked, signed PNG."""
        return (await self._get(f"/v1/generations/{generation_id}/images/{number}")).content

    async def cancel(self, generation_id: str) -> None:
        await self._send("DELETE", f"/v1/generations/{generation_id}")

    async def _json(self, method: str, path: str, body: BaseModel) -> httpx2.Response:
        headers: Mapping[str, str] = {"Content-Type": "application/json"}
        return await self._send(method, path, body.model_dump_json().encode(), headers)

    def _read(self, answer: httpx2.Response) -> Progress:
        try:
            return Progress.model_validate_json(answer.content)
        except ValidationError as error:
            raise self._unexpected() from error

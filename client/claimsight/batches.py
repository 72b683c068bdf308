"""Batches: thousands of photos as archives and a manifest, assessed in the background, results line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from claimsight.errors import Unreachable
from claimsight.models import Batch
from claimsight.transport import Transport


class Batches:
    """`claimsight.batches`: create, put parts and the manifest, start, look, read the results."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, external_ref: str | None = None, metadata: Mapping[str, Any] | None = None) -> Batch:
        """An empty batch. Where the connection breaks, another empty one may be left; it expires by itself."""
        body = {"external_ref": external_ref, "metadata": dict(metadata or {})}
        return _batch(self._transport.send("POST", "/v1/batches", body=lambda: {"json": body}).content)

    def put_part(self, batch_id: str, number: int, archive: Path) -> Batch:
        """Send one archive (tar or zip) of photos; sending the same part again changes nothing."""
        # The file is opened anew for every attempt: a stream can be read only once.
        path = f"/v1/batches/{batch_id}/parts/{number}"
        return _batch(self._transport.send("PUT", path, body=lambda: {"content": _chunks(archive)}).content)

    def put_manifest(self, batch_id: str, lines: Iterable[Mapping[str, Any]]) -> Batch:
        """`lines`: {"id": your own, "photos": [names in the archives], "external_ref"?, "metadata"?} each."""
        whole = "".join(json.dumps(dict(line)) + "\n" for line in lines).encode()
        path = f"/v1/batches/{batch_id}/manifest"
        return _batch(self._transport.send("PUT", path, body=lambda: {"content": whole}).content)

    def start(self, batch_id: str) -> Batch:
        """Begin; nothing can be added from here on."""
        return _batch(self._transport.send("POST", f"/v1/batches/{batch_id}/start").content)

    def get(self, batch_id: str) -> Batch:
        return _batch(self._transport.send("GET", f"/v1/batches/{batch_id}").content)

    def list(self) -> list[Batch]:
        """The newest hundred."""
        page = self._transport.send("GET", "/v1/batches", params={"page_size": 100}).json()
        return [Batch.model_validate(each) for each in page["data"]]

    def cancel(self, batch_id: str) -> Batch:
        """Start no further line; what has been assessed stays."""
        return _batch(self._transport.send("POST", f"/v1/batches/{batch_id}/cancel").content)

    def results(self, batch_id: str) -> Iterator[dict[str, Any]]:
        """One result per line that is done, in the manifest's order, as they arrive."""
        answer = self._transport.stream(f"/v1/batches/{batch_id}/results.jsonl")
        try:
            for line in answer.iter_lines():
                yield json.loads(line)
        except OSError as error:
            raise Unreachable(f"The results of {batch_id} broke off; ask for them again.") from error
        finally:
            answer.close()

    def save(self, batch_id: str, kind: Literal["jsonl", "coco"], to: Path) -> None:
        """Write the results to the file `to`, complete or not at all."""
        name = "results.jsonl" if kind == "jsonl" else "results.coco.json"
        answer = self._transport.stream(f"/v1/batches/{batch_id}/{name}")
        unfinished = to.with_name(to.name + ".part")
        try:
            with unfinished.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        finally:
            answer.close()
        unfinished.replace(to)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(256 * 1024):
            yield chunk


def _batch(content: bytes) -> Batch:
    return Batch.model_validate_json(content)

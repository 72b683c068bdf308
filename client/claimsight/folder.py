"""A folder of photos as one batch: packed into parts, sent, waited for, results saved. Begun again, it goes on.

What has been done so far stands in a small file beside the results. The gateway knows which parts have arrived, so a
broken connection costs at most one part.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from claimsight.client import Claimsight
from claimsight.errors import ClaimsightError, Refused
from claimsight.models import Batch

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif"})
_PART_BYTES = 32 * 1024 * 1024  # of photos: little is lost with a part, and a hundred are few requests
_LOOK_S = 1.0

Told = Callable[[str, int, int], None]
"""Hears of progress: what is going on, how much of it is done, how much there is."""


class State(BaseModel):
    """What must be known to go on: which batch, of which photos."""

    batch_id: str
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """The photos in their parts, and the claims that they make."""

    folder: Path
    parts: list[list[Path]]
    claims: list[list[Path]]

    @property
    def photos(self) -> int:
        return sum(map(len, self.parts))

    @property
    def fingerprint(self) -> str:
        """Another one whenever a photo was added, removed or changed, or other claims are to be made."""
        digest = hashlib.sha256()
        for part in self.parts:
            for path in part:
                found = path.stat()
                digest.update(f"{self.name(path)}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(errors="replace"))
        digest.update(str(len(self.claims)).encode())
        return digest.hexdigest()

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def plan(folder: Path, *, claim_per_folder: bool) -> Plan:
    """Every photo under `folder`, hidden files aside: each a claim, or all those of one subfolder together.

    Raises ClaimsightError where there is none.
    """
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _plain(path, folder))
    if not photos:
        raise ClaimsightError(f"There is no photo in {folder}. Photos end with {', '.join(sorted(SUFFIXES))}.")
    claims: dict[Path, list[Path]] = {}
    for path in photos:
        claims.setdefault(path.parent if claim_per_folder else path, []).append(path)
    return Plan(folder, list(_parts(photos)), list(claims.values()))


def run(client: Claimsight, planned: Plan, out: Path, *, coco: Path | None, told: Told) -> Batch:
    """Send what has not arrived yet, wait until the batch has ended, save the results. Raises ClaimsightError."""
    state_file = out.with_name(out.name + ".state")
    batch = _known(client, state_file, planned.fingerprint)
    if batch is None:
        batch = client.batches.create(external_ref=planned.folder.name[:200] or None)
        state_file.write_text(State(batch_id=batch.id, fingerprint=planned.fingerprint).model_dump_json())
    if batch.status == "uploading":
        batch = _send(client, batch, planned, told)
    while not batch.final:
        if batch.progress:
            told("assessing", batch.progress.done, batch.progress.total)
        time.sleep(_LOOK_S)
        batch = client.batches.get(batch.id)
    if batch.progress:
        told("assessing", batch.progress.done, batch.progress.total)
    client.batches.save(batch.id, "jsonl", out)
    if coco:
        client.batches.save(batch.id, "coco", coco)
    state_file.unlink()
    return batch


def _send(client: Claimsight, batch: Batch, planned: Plan, told: Told) -> Batch:
    arrived = {part.number for part in batch.parts}
    sent = 0
    for number, photos in enumerate(planned.parts, start=1):
        if number not in arrived:
            told("sending", sent, planned.photos)
            with tempfile.NamedTemporaryFile(prefix="claimsight-", suffix=".tar") as archive:
                with tarfile.open(fileobj=archive, mode="w") as packed:
                    for path in photos:
                        packed.add(path, planned.name(path), recursive=False)
                archive.flush()
                client.batches.put_part(batch.id, number, Path(archive.name))
        sent += len(photos)
    told("sending", sent, planned.photos)
    lines = (
        {"id": _line_id(planned, claim), "photos": [planned.name(path) for path in claim]} for claim in planned.claims
    )
    client.batches.put_manifest(batch.id, lines)
    try:
        return client.batches.start(batch.id)
    except Refused as refused:
        if refused.slug != "batch-closed":  # an answer that was lost: it had been started
            raise
        return client.batches.get(batch.id)


def _line_id(planned: Plan, claim: list[Path]) -> str:
    """The photo's name, or that of the folder whose photos make the claim."""
    return planned.name(claim[0] if len(planned.claims) == planned.photos else claim[0].parent)


def _known(client: Claimsight, state_file: Path, fingerprint: str) -> Batch | None:
    """The batch that an earlier run began, if it was of the same photos and is still there."""
    try:
        state = State.model_validate_json(state_file.read_text())
        batch = client.batches.get(state.batch_id) if state.fingerprint == fingerprint else None
    except (OSError, ValidationError):
        return None
    except Refused as refused:
        if refused.status != 404:
            raise
        return None
    return batch if batch and batch.status not in ("canceled", "expired") else None


def _parts(photos: list[Path]) -> Iterator[list[Path]]:
    part: list[Path] = []
    size = 0
    for path in photos:
        if part and size + path.stat().st_size > _PART_BYTES:
            yield part
            part, size = [], 0
        part.append(path)
        size += path.stat().st_size
    yield part


def _plain(path: Path, folder: Path) -> bool:
    """A file of its own, not hidden: links would be refused by the gateway."""
    hidden = any(step.startswith(".") for step in path.relative_to(folder).parts)
    return path.is_file() and not path.is_symlink() and not hidden

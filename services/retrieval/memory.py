"""The memory of past cases: rows in a database, all of them searchable, and people's cases added and taken back."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.serving.errors import MemoryRefused, NotFound
from services.common.serving.modelpack import Manifest, Pack
from services.common.serving.schemas import Case, Kept, MemoryStats, Neighbour, Snapshot
from services.common.serving.schemas import Guard as GuardState
from services.common.vision.size import SizeClass
from services.common.vision.vote import NEIGHBOURS, rule
from services.retrieval import packcases
from services.retrieval.guard import Change, Guard
from services.retrieval.nearest import NearestCases
from services.retrieval.rows import Entry, MemoryRows, Row, from_bytes, now_ms, to_bytes
from services.retrieval.snapshots import Snapshots
from services.retrieval.space import Space
from services.retrieval.vectors import Where

log = structlog.get_logger(__name__)

PER_CLAIM = 20  # cases that one claim may add: nobody's single claim can outvote the rest
_SAME = 1e-3  # cosine distance below which two embeddings are of one crop: what rounding and another resize leave


class Memory:
    """Answers the nearest past cases to an embedding, and grows. Methods block; call them from a thread."""

    def __init__(self, manifest: Manifest, rows: MemoryRows, folder: Path) -> None:
        self._rows = rows
        self._snapshots = Snapshots(folder / "snapshots")
        self._writing = Lock()
        self._guard: Guard | None = None
        self._nearest: NearestCases
        self.space = Space.of(manifest)

    @classmethod
    def open(cls, pack: Pack, *, folder: Path, database_url: str, rebuild: bool = False) -> Memory:
        """Load the pack's rows unless they are loaded already, and open the index or build it from the rows.

        The index lies in `folder`/index. Raises PackError.
        """
        packcases.check_pack(pack)
        manifest = pack.manifest
        frozen = packcases.frozen_crops(pack)
        rows = MemoryRows(database_url)
        identity = packcases.identity(manifest)
        if not rows.has_pack(identity):
            started = time.perf_counter()
            cases = packcases.rows_of(pack)
            rows.load_pack(identity, manifest.name, manifest.version, cases)
            log.info("memory pack loaded", rows=len(cases), seconds=round(time.perf_counter() - started, 2))
        memory = cls(manifest, rows, folder)
        binding = {"backbone": manifest.backbone, "pack": identity}
        batches = rows.living(manifest.backbone)
        memory._nearest = NearestCases.open(batches, manifest.embedding_dim, folder / "index", binding, rebuild=rebuild)
        if frozen is not None:
            memory._guard = Guard(frozen, rule(manifest.thresholds), memory.space.classes, memory._for_guard)
        return memory

    def __len__(self) -> int:
        return len(self._nearest)

    def search(
        self,
        embeddings: NDArray[np.float32],
        *,
        k: int,
        tenant: str | None = None,
        exclude_claim: str | None = None,
        backbone: str | None = None,
        size: SizeClass | None = None,
        label: str | None = None,
    ) -> list[list[Neighbour]]:
        """The `k` nearest past cases of each of float32 [n, d], nearest first: shared ones and the tenant's own.

        Crops of the tenant's claim `exclude_claim` are left out: a claim is no precedent for itself. Raises
        InvalidRequest for the embeddings of another backbone and for what is no L2-normalised embedding, Unprocessable
        for an unknown label.
        """
        self.space.check(embeddings, backbone)
        if label is not None:
            self.space.check_label(label)
        own_claim = _claim_hash(tenant, exclude_claim) if tenant and exclude_claim else None
        return self._nearest.search(embeddings, k, Where(tenant, own_claim, size, label))

    def add(self, case: Case, embedding: NDArray[np.float32], *, tenant: str, backbone: str | None = None) -> Kept:
        """Keep a labelled crop, `embedding` float32 [d]; the next search finds it.

        Raises MemoryRefused where the id is taken, the claim has added enough, or the guard says no; what `search`
        raises; all of it leaves the memory as it was.
        """
        self.space.check(embedding[None], backbone)
        self.space.check_label(case.label)
        row = Row(
            id=case.id,
            embedding=to_bytes(embedding),
            label=case.label,
            source=case.source,
            backbone=self.space.backbone,
            size=case.size,
            part=case.part,
            tenant=tenant,
            claim_hash=_claim_hash(tenant, case.claim_id),
            reviewer=case.reviewer,
            created_at=now_ms(),
        )
        with self._writing:
            if (known := self._rows.get([case.id]).get(case.id)) is not None:
                return _again(known, row)
            row = replace(row, same_as=self._twin(row))
            self._enter(row, Entry("known" if row.same_as else "kept", tenant, case.id, case.reviewer, _detail(row)))
        return _kept(row)

    def correct(self, case_id: str, label: str, *, tenant: str, reviewer: str | None = None) -> None:
        """Give the tenant's case another label. Raises NotFound, Unprocessable, MemoryRefused."""
        self.space.check_label(label)
        with self._writing:
            row = self._own(case_id, tenant)
            if row.retracted_at is not None:
                raise MemoryRefused("The case was taken back. Add it anew, under an id of its own.")
            if row.label != label:
                detail = {"label": label, "before": row.label}
                self._relabel(row, label, Entry("corrected", tenant, case_id, reviewer, detail))

    def retract(self, case_id: str, *, tenant: str, reviewer: str | None = None) -> None:
        """Take the tenant's case back: searches answer as if it had never been there. Raises NotFound."""
        with self._writing:
            row = self._own(case_id, tenant)
            if row.retracted_at is not None:
                return
            heir = self._rows.retract(case_id, Entry("retracted", tenant, case_id, reviewer, _detail(row)))
            if row.same_as is None:
                self._nearest.remove(case_id)
                self._succeed(heir, tenant)

    def snapshot(self) -> Snapshot:
        """Copy all added cases, every tenant's."""
        with self._writing:
            snapshot = self._snapshots.write(self.space.backbone, self._rows.added(self.space.backbone))
            self._rows.log(Entry("snapshot", detail={"name": snapshot.name, "cases": snapshot.cases}))
        return snapshot

    def restore(self, name: str) -> Snapshot:
        """Make the added cases exactly those of a snapshot. Raises NotFound, MemoryRefused; then nothing changed."""
        with self._writing:
            snapshot, rows = self._snapshots.read(name, self.space.backbone)
            detail = {"name": name, "cases": snapshot.cases}
            self._rows.replace_added(self.space.backbone, rows, Entry("restored", detail=detail))
            self._nearest.reload(self._rows.living(self.space.backbone))
            if self._guard is not None:
                self._guard.forget_all()
        return snapshot

    def stats(self, tenant: str) -> MemoryStats:
        cases, retracted = self._rows.count_labels(tenant, self.space.backbone)
        state = None
        if (guard := self._guard) is not None:
            with self._writing:
                state = GuardState(crops=len(guard), right_before=guard.before, right_now=guard.now(tenant))
        return MemoryStats(
            backbone=self.space.backbone,
            training=self._nearest.count(Where()),
            cases=cases,
            retracted=retracted,
            guard=state,
            search=self._nearest.fastest,
            indexed=self._nearest.indexed,
            snapshots=self._snapshots.complete(),
        )

    def log(self, tenant: str, *, limit: int = 100) -> list[Entry]:
        """What was done to the tenant's cases, newest first."""
        return self._rows.entries(tenant, limit=limit)

    def close(self) -> None:
        self._nearest.close()
        self._rows.close()

    def _enter(self, row: Row, entry: Entry) -> None:
        """A new row, unless its claim has given enough or the guard objects."""
        change = self._change(row)
        claim = row.claim_hash or ""
        enough = self._rows.count_claim(claim) >= PER_CLAIM
        if why := f"This claim has added its {PER_CLAIM} cases." if enough else self._objection(row.tenant, change):
            self._refuse(entry, why)
        self._rows.add(row, entry)
        if row.same_as is None:
            self._nearest.add(row)
            self._accept(row.tenant, change)

    def _relabel(self, row: Row, label: str, entry: Entry) -> None:
        corrected = replace(row, label=label, same_as=None)
        if row.same_as is not None:  # it was found through another one; now it says something of its own
            change = self._change(corrected)
        else:
            change = self._guard.with_label(row.tenant or "", row.id, label) if self._guard else {}
        if why := self._objection(row.tenant, change):
            self._refuse(entry, why)
        heir = self._rows.relabel(row.id, label, entry)
        if row.same_as is not None:
            self._nearest.add(corrected)
        else:
            self._nearest.relabel(row.id, label)
        self._accept(row.tenant, change)
        if heir is not None:
            self._succeed(heir, row.tenant)

    def _succeed(self, heir: str | None, tenant: str | None) -> None:
        """After a case is gone, the one that said the same is found in its place."""
        if heir is not None:
            self._nearest.add(self._rows.get([heir])[heir])
        if self._guard is not None and tenant is not None:
            self._guard.forget(tenant)

    def _change(self, row: Row) -> Change:
        if self._guard is None or row.same_as is not None:
            return {}
        (embedding,) = from_bytes([row.embedding])
        return self._guard.with_case(row.tenant or "", row.id, embedding, row.label, human=row.source == "human")

    def _objection(self, tenant: str | None, change: Change) -> str | None:
        return self._guard.objection(tenant or "", change) if self._guard and change else None

    def _accept(self, tenant: str | None, change: Change) -> None:
        if self._guard is not None:
            self._guard.accept(tenant or "", change)

    def _refuse(self, entry: Entry, why: str) -> None:
        self._rows.log(replace(entry, action="refused", detail={**(entry.detail or {}), "why": why}))
        raise MemoryRefused(why)

    def _own(self, case_id: str, tenant: str) -> Row:
        row = self._rows.get([case_id]).get(case_id)
        if row is None or row.tenant != tenant or row.backbone != self.space.backbone:
            raise NotFound(f"The memory has no case {case_id[:80]} of yours.")
        return row

    def _twin(self, row: Row) -> str | None:
        """The tenant's case that says the same of the same crop, if there is one."""
        where = Where(row.tenant, label=row.label)
        for near in self._nearest.search(from_bytes([row.embedding]), 5, where)[0]:
            if near.distance <= _SAME and near.source == row.source:
                return near.id
        return None

    def _for_guard(self, embeddings: NDArray[np.float32], tenant: str | None) -> list[list[Neighbour]]:
        return self._nearest.search(embeddings, NEIGHBOURS, Where(tenant))


def _again(known: Row, row: Row) -> Kept:
    """The answer to a case that was sent before. Raises MemoryRefused where it is another case."""
    if known.retracted_at is not None:
        raise MemoryRefused("A case with this id was taken back. Add it anew, under an id of its own.")
    if (known.tenant, known.embedding, known.label) != (row.tenant, row.embedding, row.label):
        raise MemoryRefused("Another case has this id. Give every case an id of its own.")
    return _kept(known)


def _kept(row: Row) -> Kept:
    return Kept(id=row.id, outcome="known" if row.same_as else "kept", same_as=row.same_as)


def _detail(row: Row) -> dict[str, object]:
    return {"label": row.label, "source": row.source}


def _claim_hash(tenant: str, claim_id: str) -> str:
    """Enough to recognise a claim by, and nothing to find it with."""
    return hashlib.sha256(f"{tenant}/{claim_id}".encode()).hexdigest()

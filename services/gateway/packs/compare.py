"""How alike two packs answered one photo, and many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from services.common.serving.schemas import Box
from services.gateway import schemas
from services.gateway.packs.schemas import Comparison, Latency
from services.gateway.records.models import Json

_SAME_PLACE = 0.5  # IoU of two boxes from which they are one damage
_MODELS = ("segment", "crop", "classify", "retrieve")  # stages that a pack has a say in


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one photo: findings of each, of both, and those of both with the same title."""

    active: int
    candidate: int
    both: int
    same_title: int
    same_route: bool
    active_ms: float
    candidate_ms: float


def compared(
    active: Sequence[schemas.Finding],
    candidate: Sequence[schemas.Finding],
    active_ms: dict[str, float],
    candidate_ms: dict[str, float],
) -> Json:
    """Findings are matched by their boxes, the most alike first, each at most once."""
    matched = _matched([f.box for f in active], [f.box for f in candidate])
    pair = Pair(
        active=len(active),
        candidate=len(candidate),
        both=len(matched),
        same_title=sum(active[a].title == candidate[c].title for a, c in matched),
        same_route=_route(active) == _route(candidate),
        active_ms=_spent(active_ms),
        candidate_ms=_spent(candidate_ms),
    )
    return asdict(pair)


def report(trials: Iterable[tuple[str, str, str | None, Json]]) -> list[Comparison]:
    """(pair, claim id, error, comparison) of each trial -> one line per pair of packs, in the order of the trials."""
    by_pair: dict[str, list[tuple[str, str | None, Json]]] = {}
    for pair, claim_id, error, comparison in trials:
        by_pair.setdefault(pair, []).append((claim_id, error, comparison))
    return [_line(pair, found) for pair, found in by_pair.items()]


def _line(pair: str, trials: list[tuple[str, str | None, Json]]) -> Comparison:
    pairs = [Pair(**comparison) for _, error, comparison in trials if error is None]
    active, candidate, both = (sum(getattr(p, name) for p in pairs) for name in ("active", "candidate", "both"))
    return Comparison(
        packs=pair,
        claims=len({claim for claim, _, _ in trials}),
        photos=len(pairs),
        errors=len(trials) - len(pairs),
        findings_active=active,
        findings_candidate=candidate,
        findings_both=both,
        agreement=round(2 * both / (active + candidate), 4) if active + candidate else None,
        same_title=round(sum(p.same_title for p in pairs) / both, 4) if both else None,
        same_route=round(sum(p.same_route for p in pairs) / len(pairs), 4) if pairs else None,
        active_ms=_latency([p.active_ms for p in pairs]),
        candidate_ms=_latency([p.candidate_ms for p in pairs]),
    )


def _matched(active: Sequence[Box], candidate: Sequence[Box]) -> list[tuple[int, int]]:
    if not active or not candidate:
        return []
    a, c = np.asarray(active, float)[:, None], np.asarray(candidate, float)[None]
    overlap = np.prod(np.clip(np.minimum(a[..., 2:], c[..., 2:]) - np.maximum(a[..., :2], c[..., :2]), 0, None), -1)
    areas = np.prod(a[..., 2:] - a[..., :2], -1) + np.prod(c[..., 2:] - c[..., :2], -1)
    iou = overlap / np.maximum(areas - overlap, 1e-12)
    found = []
    while iou.max() >= _SAME_PLACE:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        found.append((int(row), int(column)))
        iou[row], iou[:, column] = 0, 0
    return found


def _route(findings: Sequence[schemas.Finding]) -> str:
    return "review" if any(finding.route == "review" for finding in findings) else "auto"


def _spent(timings_ms: dict[str, float]) -> float:
    return round(sum(timings_ms.get(stage, 0.0) for stage in _MODELS), 1)


def _latency(ms: list[float]) -> Latency | None:
    if not ms:
        return None
    half, most = np.percentile(ms, (50, 95))
    return Latency(p50=round(float(half), 1), p95=round(float(most), 1), n=len(ms))

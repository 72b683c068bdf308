"""A damage that a person draws becomes a finding like any other: the same crop, second opinion and memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.common.serving.schemas import Instance, Mask, Scored
from services.common.vision import masks
from services.gateway import ids, schemas
from services.gateway.assessment import findings
from services.gateway.assessment.fallback import judge
from services.gateway.assessment.names import Names
from services.gateway.reviews import verdicts
from services.gateway.reviews.schemas import Drawn
from services.gateway.runtime import Runtime

_CELLS = 192  # of the mask that stands for a box, both sides


async def finding(
    runtime: Runtime, tenant: str, claim_id: str, photo_id: str, wish: Drawn
) -> tuple[schemas.Finding, str | None]:
    """The finding, and the class that the memory is to learn. Raises Problem."""
    crops, policy = runtime.crops, runtime.policy
    info = await runtime.clients.classifier.info()
    names = Names(info.vocabulary)
    verdicts.check_damage(wish.damage, info.vocabulary)
    part = verdicts.part_of(None, wish, names)
    answer = await crops.classified(photo_id, wish.box, info)
    (judged,) = await judge(answer, info, runtime.clients.retrieval, policy, tenant=tenant, claim_id=claim_id)
    drawn = _instance(wish)
    outlines = findings.outline([drawn], [], policy)
    (made,) = findings.build([drawn], outlines, [replace(judged, doubt=None)], [], names=names, policy=policy)
    x0, y0, x1, y1 = made.box
    found = made.model_copy(
        update={
            "id": ids.new("fnd"),
            "source": "human",
            "title": made.display,
            "title_confidence": made.confidence,
            "part": part,
            "polygons": [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]],  # the outline of the grid would be coarser
            "route": "auto",
            "reasons": [],
        }
    )
    return found, verdicts.lesson(wish.damage, found.opinion, info.vocabulary)


def _instance(wish: Drawn) -> Instance:
    """What a segmenter that is sure would have said; the mask is the box."""
    x0, y0, x1, y1 = (round(edge * _CELLS) for edge in wish.box)
    grid = np.zeros((_CELLS, _CELLS), bool)
    grid[min(y0, _CELLS - 1) : max(y1, y0 + 1), min(x0, _CELLS - 1) : max(x1, x0 + 1)] = True
    size, counts = masks.encode(grid)
    box = (round(wish.box[0], 4), round(wish.box[1], 4), round(wish.box[2], 4), round(wish.box[3], 4))
    return Instance(
        kind="damage",
        label=wish.damage,
        score=1.0,
        labels=[Scored(label=wish.damage, score=1.0)],
        fake_score=0.0,
        box=box,
        mask=Mask(size=size, counts=counts),
    )

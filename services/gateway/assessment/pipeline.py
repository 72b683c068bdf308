"""One photo's walk: bytes -> photo -> segmentation -> crops -> second opinions -> findings. One decode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.common.serving import tracing
from services.common.serving.errors import Generated, NotReady
from services.common.serving.schemas import Instance, ModelInfo, ModelRef, Segmentation
from services.common.serving.telemetry import STAGE_SECONDS
from services.common.vision.crops import cut_crops
from services.common.vision.masks import encoded_share
from services.common.vision.photo import Photo, open_photo
from services.gateway import schemas
from services.gateway.assessment import findings
from services.gateway.assessment.clients import Clients
from services.gateway.assessment.fallback import Judged, judge
from services.gateway.assessment.names import Names
from services.gateway.assessment.policy import Policy
from services.gateway.assessment.reasons import reason
from services.gateway.generated.registry import GENERATED, Registry


@dataclass(frozen=True, slots=True)
class Assessment:
    """What one photo came to, and which models said so."""

    width: int
    height: int
    vehicle: float
    findings: list[schemas.Finding]
    parts: list[schemas.SeenPart]
    lookalikes: list[schemas.Lookalike]
    reasons: list[schemas.Reason]
    models: dict[str, ModelRef]
    timings_ms: dict[str, float]


async def opened(data: bytes, policy: Policy) -> Photo:
    """The photo, decoded in a thread. Raises PhotoError."""
    return await asyncio.to_thread(open_photo, data, max_pixels=policy.max_pixels)


async def assess(
    opening: Awaitable[Photo],
    clients: Clients,
    policy: Policy,
    *,
    tenant: str,
    claim_id: str,
    own: Registry | None = None,
) -> Assessment:
    """Assess one photo, `opened` or about to be. CPU work runs in threads, so that many claims share one event loop.

    Raises Generated for a picture that was made here (`own` knows them), PhotoError for a photo that cannot be used and
    Problem where the segmenter or the classifier cannot answer; the memory's outage is a reason for review, no error.
    """
    watch = _Watch()
    with watch("decode"):
        photo = await opening
    if own is not None:
        with watch("recognise"):
            if await own.match(photo.pixels) is not None:
                raise Generated(GENERATED)
    segmenter, classifier = await clients.matching()
    with watch("segment"):
        seen = await clients.segmenter.segment(photo.pixels)
    _same(seen.model, segmenter)
    models = {"segmenter": seen.model}
    damages = [instance for instance in seen.instances if instance.kind == "damage"]
    listed = sorted(damages, key=lambda damage: -damage.score)[: policy.max_findings]
    names = Names(classifier.vocabulary)
    parts, fakes = ([i for i in seen.instances if i.kind == kind] for kind in ("part", "fake"))
    found: list[schemas.Finding] = []
    if listed:
        outlining = asyncio.to_thread(findings.outline, listed, fakes, policy)  # while the second opinion is asked for
        outlines, (judged, models["classifier"]) = await asyncio.gather(
            outlining,
            _second_opinions(
                photo, listed, classifier, clients=clients, policy=policy, tenant=tenant, claim_id=claim_id, watch=watch
            ),
        )
        with watch("describe"):
            found = findings.build(listed, outlines, judged, parts, names=names, policy=policy)
    return Assessment(
        width=photo.width,
        height=photo.height,
        vehicle=seen.vehicle,
        findings=found,
        parts=[_seen_part(part, names) for part in parts],
        lookalikes=[_lookalike(fake, names) for fake in fakes],
        reasons=_reasons(seen, len(damages), len(listed), policy),
        models=models,
        timings_ms=watch.laps,
    )


async def _second_opinions(
    photo: Photo,
    damages: list[Instance],
    info: ModelInfo,
    *,
    clients: Clients,
    policy: Policy,
    tenant: str,
    claim_id: str,
    watch: _Watch,
) -> tuple[list[Judged], ModelRef]:
    with watch("crop"):
        crops = await asyncio.to_thread(
            cut_crops,
            photo.pixels,
            [damage.box for damage in damages],
            size=info.input_height,
            resize=info.resize,
            context=info.context,
        )
    with watch("classify"):
        answer = await clients.classifier.classify(crops)
    _same(answer.model, info)
    with watch("retrieve"):
        judged = await judge(answer, info, clients.retrieval, policy, tenant=tenant, claim_id=claim_id)
    return judged, answer.model


def _same(answered: ModelRef, info: ModelInfo) -> None:
    """Numbers are read by the info of the pack that gave them. Raises NotReady where another came up in between.

    Services of one pack may run it on different providers: that changes no meaning.
    """
    if (answered.name, answered.version) != (info.model.name, info.model.version):
        raise NotReady(f"Another pack came up in the {info.service} in mid-photo. Try again.")


def _seen_part(part: Instance, names: Names) -> schemas.SeenPart:
    share = round(encoded_share(part.mask.size, part.mask.counts), 4)
    return schemas.SeenPart(**names.part(part.label, share).model_dump(), score=round(part.score, 4), box=part.box)


def _lookalike(fake: Instance, names: Names) -> schemas.Lookalike:
    return schemas.Lookalike(
        label=fake.label, display=names.fake(fake.label), score=round(fake.score, 4), box=fake.box, mask=fake.mask
    )


def _reasons(seen: Segmentation, found: int, listed: int, policy: Policy) -> list[schemas.Reason]:
    reasons = []
    if seen.vehicle < policy.least_vehicle:
        reasons.append(reason("no_vehicle"))
    if found > listed:
        reasons.append(reason("too_many_findings", f"{found} damages were found, the {listed} surest are listed"))
    return reasons


class _Watch:
    """Milliseconds per stage of one photo, and the same for the metrics."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        with tracing.span(stage):
            yield
        seconds = time.perf_counter() - started
        self.laps[stage] = round(seconds * 1000, 1)
        STAGE_SECONDS.labels("gateway", stage).observe(seconds)

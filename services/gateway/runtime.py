"""Everything a gateway or a worker holds while it runs, opened and closed in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from services.common.jobs.connection import asking, listening
from services.common.jobs.payload import CLAIMS, GENERATIONS
from services.common.jobs.queue import JobQueue
from services.common.jobs.signals import Signals
from services.common.serving.clients import HttpClassifier, HttpRetrieval, HttpSegmenter, over_network
from services.common.serving.ending import end
from services.common.serving.generator_client import HttpGenerator
from services.gateway import measures
from services.gateway.ahead import Ahead
from services.gateway.assessment.clients import Clients
from services.gateway.assessment.policy import Policy
from services.gateway.callers import Callers
from services.gateway.drain import Drain
from services.gateway.drawn import Drawn
from services.gateway.fetching import Fetching
from services.gateway.generated.registry import Registry
from services.gateway.outbound import Outbound
from services.gateway.packs.rules import Rules
from services.gateway.photos import PhotoStore
from services.gateway.pictures import Pictures
from services.gateway.quotas import Quotas, Rates
from services.gateway.records.attempts import Attempts
from services.gateway.records.batch_work import BatchWork
from services.gateway.records.batches import BatchStore
from services.gateway.records.changes import Changes
from services.gateway.records.database import Database
from services.gateway.records.deadlines import Deadlines
from services.gateway.records.erasures import ErasureStore
from services.gateway.records.generations import GenerationStore
from services.gateway.records.idempotency import IdempotencyStore
from services.gateway.records.keys import KeyStore
from services.gateway.records.looks import Looks
from services.gateway.records.packs import PackStore
from services.gateway.records.reviews import ReviewStore
from services.gateway.records.states import States
from services.gateway.records.store import ClaimStore
from services.gateway.records.usage import UsageStore
from services.gateway.records.webhooks import WebhookStore
from services.gateway.reviews.crops import Crops
from services.gateway.reviews.learning import Learning
from services.gateway.settings import Settings, listed
from services.gateway.turnstile import Turnstile


@dataclass(frozen=True, slots=True)
class Runtime:
    settings: Settings
    policy: Policy
    clients: Clients
    packs: PackStore
    rules: Rules
    claims: ClaimStore
    attempts: Attempts
    states: States
    drawn: Drawn
    changes: Changes
    deadlines: Deadlines
    erasures: ErasureStore
    idempotency: IdempotencyStore
    looks: Looks
    photos: PhotoStore
    ahead: Ahead
    pictures: Pictures
    keys: KeyStore
    callers: Callers
    quotas: Quotas
    rates: Rates
    usage: UsageStore
    drain: Drain
    queue: JobQueue
    signals: Signals
    webhooks: WebhookStore
    outbound: Outbound
    fetching: Fetching
    reviews: ReviewStore
    crops: Crops
    learning: Learning
    batches: BatchStore
    batch_work: BatchWork
    generations: GenerationStore
    generation_queue: JobQueue
    registry: Registry
    training: PhotoStore | None
    archives: Turnstile
    checks: Turnstile
    analyses: Turnstile


@asynccontextmanager
async def opened(settings: Settings, clients: Clients | None = None) -> AsyncIterator[Runtime]:
    """Open the records (migrating them), the photo store and the queue.

    `clients` are the model services in this process; without them, those at the settings' addresses. Neither the queue
    nor a model service has to be up yet: readiness and the worker deal with that.
    """
    async with AsyncExitStack() as stack:
        database = Database(settings.records)
        stack.push_async_callback(database.close)
        await database.upgrade()
        queue = JobQueue(asking(settings.redis_url), CLAIMS, limit=settings.max_queue)
        stack.push_async_callback(queue.close)
        generations = GenerationStore(database)
        generation_queue = JobQueue(asking(settings.redis_url), GENERATIONS, limit=settings.max_generations)
        stack.push_async_callback(generation_queue.close)
        signals = Signals(asking(settings.redis_url), listening(settings.redis_url))
        stack.push_async_callback(signals.close)
        counting = asking(settings.redis_url)
        stack.push_async_callback(counting.aclose)
        photos = PhotoStore(settings.photo_store)
        keys = KeyStore(database)
        usage = UsageStore(database)
        quotas = Quotas(settings.quota, settings.quotas)
        models = clients or await _over_network(settings, stack)
        packs = PackStore(database)
        reviews = ReviewStore(database)
        crops = Crops(photos, models.classifier, max_pixels=settings.max_photo_pixels)
        outbound = Outbound(listed(settings.private_receivers))
        runtime = Runtime(
            settings=settings,
            policy=policy(settings),
            clients=models,
            packs=packs,
            rules=Rules(packs, models),
            claims=ClaimStore(database),
            attempts=Attempts(database),
            states=States(database),
            drawn=Drawn(),
            changes=Changes(database),
            deadlines=Deadlines(database),
            erasures=ErasureStore(database),
            idempotency=IdempotencyStore(database),
            looks=Looks(database),
            photos=photos,
            ahead=Ahead(max_pixels=settings.max_photo_pixels),
            pictures=Pictures(photos, max_pixels=settings.max_photo_pixels),
            keys=keys,
            callers=Callers(keys),
            quotas=quotas,
            rates=Rates(quotas, counting),
            usage=usage,
            drain=Drain(usage),
            queue=queue,
            signals=signals,
            webhooks=WebhookStore(database),
            outbound=outbound,
            fetching=Fetching(
                outbound,
                listed(settings.photo_hosts),
                max_bytes=settings.max_photo_bytes,
            ),
            reviews=reviews,
            crops=crops,
            learning=Learning(reviews, crops, models.retrieval),
            batches=BatchStore(database, max_photos=settings.max_batch_photos),
            batch_work=BatchWork(database),
            generations=generations,
            generation_queue=generation_queue,
            registry=Registry(generations),
            training=PhotoStore(settings.training_url) if settings.training_url else None,
            archives=Turnstile(2, 8),  # seconds each, most of them the photo store's
            checks=Turnstile(2, 16),  # some milliseconds each
            analyses=Turnstile(2, 4),  # as long as a claim's photo each
        )
        stack.push_async_callback(end, asyncio.create_task(measures.keep(runtime.claims, queue), name="measures"))
        yield runtime


def policy(settings: Settings) -> Policy:
    return Policy(
        tau=settings.tau,
        blend=settings.blend,
        neighbours=settings.neighbours,
        sure_damage=settings.sure_damage,
        fake_doubt=settings.fake_doubt,
        least_vehicle=settings.least_vehicle,
        max_findings=settings.max_findings,
        max_pixels=settings.max_photo_pixels,
    )


async def _over_network(settings: Settings, stack: AsyncExitStack) -> Clients:
    http = [
        await stack.enter_async_context(over_network(url, settings.internal_key))
        for url in (settings.segmenter_url, settings.classifier_url, settings.retrieval_url)
    ]
    generator = None
    if settings.generator_url:
        there = over_network(settings.generator_url, settings.internal_key)
        generator = HttpGenerator(await stack.enter_async_context(there))
    return Clients(HttpSegmenter(http[0]), HttpClassifier(http[1]), HttpRetrieval(http[2]), generator)

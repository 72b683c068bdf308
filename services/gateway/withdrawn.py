"""A claim that ends before its work is done: canceled, expired or erased."""

from __future__ import annotations

from contextlib import suppress

from services.common.serving.errors import NotReady
from services.gateway.runtime import Runtime


async def tell(runtime: Runtime, claim_id: str) -> None:
    """Wake whoever waits for its end, and take its job out of the queue, where it would hold another claim's place.

    While the queue is away the job stays, and whoever takes it finds the claim ended.
    """
    await runtime.signals.publish(claim_id, ended=True)
    with suppress(NotReady):
        await runtime.queue.forget(claim_id)

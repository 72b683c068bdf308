"""How this house talks to Redis or Valkey: bounded waits for those who ask, patient ones for those who listen."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

PREFIX = "claimsight"  # of every key we write
_LONGEST_BLOCK_S = 10  # BullMQ never blocks longer in one BZPOPMIN


def asking(url: str) -> Redis:
    """A client for request handlers: a lost server is an error within two seconds, not a hanging request."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=2,
        socket_connect_timeout=2,
        retry=Retry(ConstantBackoff(0.05), 1),
    )


def listening(url: str) -> Redis:
    """A client for workers and subscribers, whose blocking reads are longer than any request may wait."""
    across_a_network = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=2 * _LONGEST_BLOCK_S,
        socket_connect_timeout=2,
        retry=Retry(ConstantBackoff(0.5), 2),
        **across_a_network,
    )

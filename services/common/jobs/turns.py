"""Whose turn it is: start-time fair queueing between tenants, and interactive work before batches.

Every job gets the virtual time at which its tenant's turn comes (Goyal, Vin and Cheng, "Start-time Fair Queuing", 1996,
section 2): the later of the time of the job that was taken last and the end of its tenant's own line. A tenant that
sends a thousand claims only makes its own line longer; another's first claim is due at once.

The unit of work is a photo, and a claim gives way between two photos. So whoever is due waits for one photo, however
many photos the running claims have.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from services.common.jobs.connection import PREFIX

# BullMQ keeps priorities below 2^21, the lowest first, first come first served within one; 0 would skip the line.
_LANE = 2**20 - 1  # priorities of each of the two lanes
_SCORE = 2**32  # BullMQ's score of a waiting job: its priority times this, plus a counter

# The line starts again at 0 whenever nothing waits and nothing runs. Should that not happen for a million photos, the
# rest of them is served first come first served.
_NEXT = """
local waiting, wait, active, turns = unpack(KEYS)
local lane, tenant, cost, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('ZCARD', waiting) + redis.call('LLEN', wait) + redis.call('LLEN', active) == 0 then
  redis.call('DEL', turns)
end
local now = tonumber(redis.call('HGET', turns, lane)) or 0
local due = math.max(now, tonumber(redis.call('HGET', turns, lane .. ':' .. tenant)) or 0)
redis.call('HSET', turns, lane .. ':' .. tenant, due + cost)
return math.min(due, last)
"""
_TAKEN = """
local now = tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or 0
if tonumber(ARGV[2]) > now then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
"""


@dataclass(frozen=True, slots=True)
class Share:
    """For whom a job is and how much it is: `photos` of `tenant`; a `batch` waits behind all interactive work."""

    tenant: str
    photos: int = 1
    batch: bool = False


NOBODYS = Share("")


class Turns:
    """The line of one queue. Every method raises RedisError or OSError when the server cannot be reached."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self._redis = redis
        self._keys = [f"{PREFIX}:{queue}:{name}" for name in ("prioritized", "wait", "active")]
        self._put_off, self._paused = (f"{PREFIX}:{queue}:{name}" for name in ("delayed", "paused"))
        self._turns = f"{PREFIX}:{queue}:turns"
        self._next = redis.register_script(_NEXT)
        self._taken = redis.register_script(_TAKEN)

    async def next(self, share: Share) -> int:
        """The priority with which a job of this share is queued now."""
        lane = int(share.batch)
        due = await self._next(
            keys=[*self._keys, self._turns], args=[lane, share.tenant, max(share.photos, 1), _LANE - 1]
        )
        return 1 + lane * _LANE + int(due)

    async def taken(self, priority: int) -> None:
        """Virtual time goes on to the job that a worker has taken."""
        lane, due = divmod(max(priority - 1, 0), _LANE)
        await self._taken(keys=[self._turns], args=[lane, due])

    async def best(self) -> int | None:
        """The priority of the job that would be taken next; None where none waits."""
        prioritized, wait, _ = self._keys
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zrange(prioritized, 0, 0, withscores=True)
            pipeline.llen(wait)
            first, taken_over = await pipeline.execute()
        if taken_over:  # jobs of workers that died
            return 0
        return int(first[0][1]) // _SCORE if first else None

    async def unfinished(self) -> int:
        """How many jobs are not finished, without the batches that wait for their turn."""
        prioritized, wait, active = self._keys
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcount(prioritized, "-inf", f"({(1 + _LANE) * _SCORE}")
            for jobs in (wait, active, self._paused):
                pipeline.llen(jobs)
            pipeline.zcard(self._put_off)
            return sum(map(int, await pipeline.execute()))


def remaining(priority: int, photos: int) -> int:
    """The priority of a job's rest after `photos` of it, within its lane."""
    lane, due = divmod(max(priority - 1, 0), _LANE)
    return 1 + lane * _LANE + min(due + photos, _LANE - 1)

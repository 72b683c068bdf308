"""Redis or Valkey and PostgreSQL, where the settings name them: version, what must be set, and whether clocks agree."""

from __future__ import annotations

import time
from collections.abc import Iterator

from services.common.doctor.check import Check

_PATIENCE_S = 3
_LEAST_REDIS = (6, 2)
_LEAST_POSTGRES = 13
_MOST_SKEW_S = 2.0  # leases and the age of what waits are told by different clocks


def redis(url: str) -> Iterator[Check]:
    if not url:
        yield Check("redis", "off", "none is named (CLAIMSIGHT_GATEWAY_REDIS_URL); `make run` brings its own")
        return
    from redis import Redis  # noqa: PLC0415 - a model service's image has none
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        with Redis.from_url(url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S) as client:
            info = client.info()
            before = time.time()
            seconds, microseconds = client.time()
            after = time.time()
    except (RedisError, OSError, ValueError) as error:
        fix = "Start it, and check address, password and network of CLAIMSIGHT_GATEWAY_REDIS_URL."
        yield Check("redis", "fail", f"does not answer: {error}", fix)
        return
    yield from _redis(info)
    yield _skew("redis", seconds + microseconds / 1e6, before, after)


def _redis(info: dict[str, object]) -> Iterator[Check]:
    version = str(info["redis_version"])  # Valkey says here which Redis it stands in for
    named = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_REDIS:
        yield Check("redis", "fail", named, "Use Redis 6.2 or newer, or Valkey: the queue's scripts need it.")
    elif info.get("role") not in ("master", None):
        yield Check("redis", "fail", f"{named}, a replica", "Name the primary: the queue writes.")
    else:
        yield Check("redis", "ok", named)
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        fix = "maxmemory-policy noeviction in its configuration: it would throw queued claims away."
        yield Check("redis eviction", "fail", f"{policy}", fix)
    else:
        yield Check("redis eviction", "ok", "noeviction")
    if not info.get("aof_enabled"):
        fix = "appendonly yes in its configuration: without it a restart forgets the queue until it is rebuilt."
        yield Check("redis append-only file", "warn", "off", fix)
    elif info.get("aof_last_write_status") != "ok":
        yield Check("redis append-only file", "fail", "the last write failed", "Is its disk full? Make room.")
    else:
        yield Check("redis append-only file", "ok", "on")
    most, used = int(str(info.get("maxmemory", 0))), int(str(info.get("used_memory", 0)))
    if most and used > 0.8 * most:
        fix = "Raise maxmemory: a full queue refuses claims."
        yield Check("redis memory", "warn", f"{used / 1e6:.0f} of {most / 1e6:.0f} MB", fix)


def postgres(url: str) -> Iterator[Check]:
    if not url.startswith("postgres"):
        yield Check("postgresql", "off", "records lie in SQLite (CLAIMSIGHT_GATEWAY_DATABASE_URL names no PostgreSQL)")
        return
    import psycopg  # noqa: PLC0415 - a model service's image has none

    ask = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('server_encoding')"
    try:
        with psycopg.connect(url, connect_timeout=_PATIENCE_S) as connection:
            version, standby, encoding = connection.execute(ask).fetchone() or (0, False, "")
            before = time.time()
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            after = time.time()
    except psycopg.Error as error:
        fix = "Start it, and check address, password and network of CLAIMSIGHT_GATEWAY_DATABASE_URL."
        yield Check("postgresql", "fail", f"does not answer: {str(error).splitlines()[0]}", fix)
        return
    named = f"PostgreSQL {version // 10000}.{version % 10000}"
    if version // 10000 < _LEAST_POSTGRES:
        yield Check("postgresql", "fail", named, f"Use PostgreSQL {_LEAST_POSTGRES} or newer.")
    elif standby:
        yield Check("postgresql", "fail", f"{named}, a standby", "Name the primary: records are written.")
    elif encoding != "UTF8":
        yield Check("postgresql", "fail", f"{named}, encoding {encoding}", "createdb -E UTF8 -T template0")
    else:
        yield Check("postgresql", "ok", named)
    if row:
        yield _skew("postgresql", float(row[0]), before, after)


def _skew(of: str, there: float, before: float, after: float) -> Check:
    """`there` was read between `before` and `after` (s since 1970): so much is certain, and no more."""
    skew = max(before - there, there - after, 0.0)
    found = f"{skew:.2f} s apart" if skew else f"agree within {after - before:.3f} s"
    if skew > _MOST_SKEW_S:
        return Check(f"clock and {of}", "fail", found, "Run chrony or systemd-timesyncd on both machines.")
    return Check(f"clock and {of}", "ok", found)

"""Keys: who may come in, what each key allows, and that nobody sees another tenant's anything."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from limits.aio.storage import memory
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from services.common.serving.settings import InvalidSettings
from services.gateway import apikeys, callers, guard, ids, keys
from services.gateway.records.keys import KeyStore
from services.gateway.settings import Settings
from tests.contract.keyring import bearing, key
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway, settings


@pytest.fixture
async def acme(tmp_path: Path) -> str:
    return await key(tmp_path, "acme")


@pytest.fixture
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are counted by minutes of the clock: here all are of the same one."""
    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: 1_800_000_000.0))


@pytest.fixture
async def http(tmp_path: Path, redis_url: str, acme: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway that knows keys; requests carry acme's unless they say otherwise."""
    async with gateway(tmp_path, redis_url, Fakes()) as client:
        client.headers.update(bearing(acme))
        yield client


def refused(answer: httpx2.Response, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:claimsight:problem:{slug}"


async def sent(http: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await http.post("/v1/claims", files=[("photos", ("a.jpg", photo(RED)))], **more)
    body: dict[str, Any] = answer.json()
    return body


async def test_without_any_key_made_a_gateway_on_loopback_serves_everybody(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes()) as http:
        assert (await http.get("/v1/claims")).status_code == 200
        assert (await http.get("/v1/usage")).json()["tenant"] == "default"


async def test_a_running_gateway_closes_when_the_first_key_is_made(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_REMEMBERED_S", 0)
    async with gateway(tmp_path, redis_url, Fakes()) as http:
        assert (await http.get("/v1/claims")).status_code == 200
        made = await key(tmp_path, "acme")
        refused(await http.get("/v1/claims"), 401, "unauthorized")
        assert (await http.get("/v1/claims", headers=bearing(made))).status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic YTpi", f"Bearer {apikeys.make().text}"])
async def test_whoever_has_no_key_gets_401_and_the_way_to_get_in(http: httpx2.AsyncClient, header: str) -> None:
    answer = await http.get("/v1/claims", headers={"Authorization": header})
    refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_key_with_the_right_name_and_the_wrong_secret_is_refused(http: httpx2.AsyncClient, acme: str) -> None:
    forged = acme[: len("csk_") + 13] + apikeys.make().text[-43:]
    refused(await http.get("/v1/claims", headers=bearing(forged)), 401, "unauthorized")


async def test_an_expired_key_is_refused(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    old = await key(tmp_path, "acme", name="old", expires_days=-1)
    refused(await http.get("/v1/claims", headers=bearing(old)), 401, "unauthorized")


async def test_a_key_does_what_its_scopes_say_and_nothing_else(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    reader = bearing(await key(tmp_path, "acme", "read", name="reader"))
    sender = bearing(await key(tmp_path, "acme", "submit", name="sender"))
    claim = await sent(http, headers=sender)
    assert claim["status"] in ("queued", "processing", "succeeded")
    assert (await http.get(claim["links"]["self"], headers=reader)).status_code == 200
    refused(await http.get(claim["links"]["self"], headers=sender), 403, "forbidden")
    refused(await http.post("/v1/claims", content=b"", headers=reader), 403, "forbidden")
    refused(await http.get("/v1/keys", headers=reader), 403, "forbidden")


async def test_a_secret_is_shown_once_and_kept_nowhere(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    made = await http.post("/v1/keys", json={"name": "app", "scopes": ["read"]})
    assert made.status_code == 201
    secret = made.json()["key"]
    listed = await http.get("/v1/keys")
    assert secret not in listed.text and made.json()["prefix"] in listed.text
    assert (await http.get("/v1/claims", headers=bearing(secret))).status_code == 200
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("records.db*"))  # noqa: ASYNC240
    assert secret.encode() not in kept and secret[-43:].encode() not in kept
    assert secret not in repr(apikeys.parse(secret))


async def test_keys_are_changed_without_a_pause(http: httpx2.AsyncClient) -> None:
    wanted = {"name": "app", "scopes": ["read"]}
    old, new = [(await http.post("/v1/keys", json=wanted)).json() for _ in range(2)]
    refused(await http.post("/v1/keys", json=wanted), 409, "key-limit")
    for made in (old, new):
        assert (await http.get("/v1/claims", headers=bearing(made["key"]))).status_code == 200
    revoked = await http.delete(f"/v1/keys/{old['id']}")
    assert revoked.status_code == 200 and revoked.json()["revoked_at"]
    refused(await http.get("/v1/claims", headers=bearing(old["key"])), 401, "unauthorized")
    assert (await http.get("/v1/claims", headers=bearing(new["key"]))).status_code == 200
    again = await http.delete(f"/v1/keys/{old['id']}")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]
    assert (await http.post("/v1/keys", json=wanted)).status_code == 201


async def test_the_use_of_a_key_is_noted(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/keys")).json()["data"][0]["last_used_at"]


async def test_a_use_that_cannot_be_noted_keeps_nobody_out(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_keys: KeyStore, _key_id: str) -> None:
        raise OperationalError("UPDATE api_keys", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(KeyStore, "used", full)
    with capture_logs() as lines:
        assert (await http.get("/v1/claims")).status_code == 200
    assert [line["error"] for line in lines if "noted" in line["event"]] == ["OperationalError"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a"},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["root"]},
        {"name": "\x00", "scopes": ["read"]},
    ],
)
async def test_a_key_that_does_not_fit_is_refused(http: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    refused(await http.post("/v1/keys", json=body), 422, "invalid-request")


@pytest.mark.parametrize("key_id", [ids.new("key"), "key_x", "1"])
async def test_an_unknown_key_is_not_found(http: httpx2.AsyncClient, key_id: str) -> None:
    refused(await http.delete(f"/v1/keys/{key_id}"), 404, "not-found")


async def test_another_tenants_keys_are_as_unknown(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    other = bearing(await key(tmp_path, "other"))
    mine = (await http.get("/v1/keys")).json()["data"][0]
    refused(await http.delete(f"/v1/keys/{mine['id']}", headers=other), 404, "not-found")
    assert mine["id"] not in (await http.get("/v1/keys", headers=other)).text


async def test_no_route_answers_without_a_key_but_health_and_the_page(http: httpx2.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    tried = 0
    for path, methods in schema["paths"].items():
        for method in methods:
            where = re.sub(r"\{[^}]*\}", "x", path)
            answer = await http.request(method, where, headers={"Authorization": ""})
            if path.startswith("/v1"):
                refused(answer, 401, "unauthorized")
                assert schema["paths"][path][method].get("security") == [{"key": []}], f"{method} {path} asks no scope"
                tried += 1
            else:
                assert path.startswith("/health/")
    assert tried >= 9


async def test_a_gateway_that_others_can_reach_does_not_start_without_keys(tmp_path: Path) -> None:
    def open_to_all(**more: object) -> Settings:
        return settings(tmp_path, "redis://127.0.0.1", host="0.0.0.0", **more)

    with pytest.raises(InvalidSettings, match="keys create"):
        await guard.check(open_to_all())
    await guard.check(open_to_all(dev=True))
    await guard.check(settings(tmp_path, "redis://127.0.0.1", host="127.0.0.2"))
    await guard.check(open_to_all(admin_key=apikeys.make().text))
    await guard.check(open_to_all())  # by now there is a key


@pytest.mark.parametrize("secret", ["", "changeme", "csk_", "csk_AAAAAAAAAAAA_"])
def test_no_default_passes_for_an_admin_key(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ValueError, match="keys make"):
        settings(tmp_path, "redis://127.0.0.1", admin_key=secret)


async def test_the_settings_admin_key_opens_and_once_revoked_stays_so(tmp_path: Path, redis_url: str) -> None:
    admin = apikeys.make().text
    configured = settings(tmp_path, redis_url, admin_key=admin)
    await guard.check(configured)
    await guard.check(configured)
    async with gateway(tmp_path, redis_url, Fakes()) as http:
        http.headers.update(bearing(admin))
        (mine,) = (await http.get("/v1/keys")).json()["data"]
        await http.delete(f"/v1/keys/{mine['id']}")
        await guard.check(configured)
        refused(await http.get("/v1/claims"), 401, "unauthorized")


def test_the_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.gateway.keys", "--data", str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done

    of = ("--tenant", "acme")
    made = run("create", *of, "--name", "app", "--scope", "submit", "--scope", "read")
    assert apikeys.parse(made.stdout.strip())
    (line,) = run("list", *of).stdout.splitlines()
    assert "submit" in line and "live" in line and made.stdout.strip() not in line
    assert "revoked" in run("revoke", *of, line.split()[0]).stdout
    for wrong in (("--name", "x" * 101), ("--name", ""), ("--name", "x", "--expires-days", "0")):
        run("create", *of, "--scope", "read", *wrong, status=2)
    assert "no such key" in run("revoke", "--tenant", "other", line.split()[0], status=1).stderr
    with closing(sqlite3.connect(tmp_path / "records.db")) as records:
        assert records.execute("SELECT tenant FROM api_keys").fetchall() == [("acme",)]


async def test_the_command_revokes_by_id_prefix_or_whole_key_what_it_means_for_certain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def revoke(text: str, tenant: str = "acme") -> str:
        words = ["--data", str(tmp_path), "revoke", "--tenant", tenant, text]
        try:
            await asyncio.to_thread(keys.main, words)
        except SystemExit as refusal:
            return str(refusal)
        return capsys.readouterr().out

    made = [await key(tmp_path, "acme", name=str(n)) for n in range(64)]  # more than the letters that may come next
    begin = Counter(text[:5] for text in made)
    shared = next(beginning for beginning, count in begin.items() if count > 1)
    refusal = await revoke(shared)
    assert f"{begin[shared]} keys of acme begin so" in refusal and refusal.count(shared) == begin[shared]
    for text in ("csk_", "", "csk_none...", made[0][:15] + "!", apikeys.make().text, ids.new("key")):
        assert "no such key" in await revoke(text)
    assert "no such key" in await revoke(made[0][:16], tenant="other")
    async with guard.records(Settings(data=tmp_path)) as database:
        listed = {row.prefix: row.id for row in await KeyStore(database).list("acme")}
    for n, text in enumerate((made[0][:16], f"{made[1][:16]}...", made[2][:14], made[3], listed[made[4][:16]])):
        told = await revoke(text)
        assert made[n][:16] in told and "revoked" in told and made[n] not in told
    async with guard.records(Settings(data=tmp_path)) as database:
        ended = {row.prefix for row in await KeyStore(database).list("acme") if row.revoked_at}
    assert ended == {text[:16] for text in made[:5]}


@pytest.mark.parametrize(
    "url", ["sqlite:///{folder}/file/records.db", "sqlite:///{folder}", "postgresql://u:hush@127.0.0.1:1/x"]
)
async def test_records_that_cannot_be_opened_are_said_with_what_to_do(tmp_path: Path, url: str) -> None:
    (tmp_path / "file").touch()  # in whose place no folder can be made, whoever runs the tests
    given = Settings(data=tmp_path, database_url=url.format(folder=tmp_path))
    with pytest.raises(InvalidSettings, match="cannot be opened") as told:
        await guard.check(given)
    assert "hush" not in str(told.value)


async def test_records_of_a_newer_version_are_left_alone_and_said_to_be_so(tmp_path: Path) -> None:
    given = Settings(data=tmp_path)
    await guard.check(given)
    with closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None)) as rows:
        rows.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidSettings, match=r"newer version.*9999"):
        await guard.check(given)


async def test_one_tenants_flood_is_429_for_it_and_nothing_for_another(
    tmp_path: Path, redis_url: str, one_minute: None
) -> None:
    flooding, other = [bearing(await key(tmp_path, tenant)) for tenant in ("acme", "other")]
    async with gateway(tmp_path, redis_url, Fakes(), quota={"requests_per_minute": 3}) as http:
        answers = [await http.get("/v1/claims", headers=flooding) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[0].headers["RateLimit-Policy"] == '"reads";q=3;w=60'
        assert answers[0].headers["RateLimit"].startswith('"reads";r=2;t=')
        assert "RateLimit" in answers[-1].headers and int(answers[-1].headers["Retry-After"]) >= 1
        refused(answers[-1], 429, "rate-limited")
        assert (await http.get("/v1/claims", headers=other)).status_code == 200


async def test_requests_that_write_are_counted_over_all_gateways(tmp_path: Path, redis_url: str) -> None:
    mine = bearing(await key(tmp_path, "acme"))
    quota = {"requests_per_minute": 3}
    async with (
        gateway(tmp_path, redis_url, Fakes(), worker=False, quota=quota) as one,
        gateway(tmp_path, redis_url, Fakes(), worker=False, quota=quota) as other,
    ):
        answers = [await http.post("/v1/claims", headers=mine) for http in (one, other, one, other, one)]
        assert [answer.status_code for answer in answers] == [415, 415, 415, 429, 429]
        assert answers[1].headers["RateLimit"].startswith('"writes";r=1;t=')
        assert (await other.get("/v1/claims", headers=mine)).status_code == 200


async def test_a_lost_redis_opens_no_door_to_a_flood(tmp_path: Path, one_minute: None) -> None:
    mine = bearing(await key(tmp_path, "acme"))
    nowhere = "redis://127.0.0.1:1"
    async with gateway(tmp_path, nowhere, Fakes(), worker=False, quota={"requests_per_minute": 2}) as http:
        answers = [await http.post("/v1/claims", headers=mine) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 429]


async def test_a_tenant_has_its_own_quota_and_sees_what_it_used(tmp_path: Path, redis_url: str) -> None:
    small, large = [bearing(await key(tmp_path, tenant)) for tenant in ("acme", "big")]
    quotas: dict[str, Any] = {"quota": {"photos_per_day": 2}, "quotas": {"big": {"photos_per_day": 100}}}
    async with gateway(tmp_path, redis_url, Fakes(), **quotas) as http:
        for headers in (small, small, large):
            assert "id" in await sent(http, headers=headers)
        answer = await http.post("/v1/claims", files=[("photos", ("a.jpg", photo(RED)))], headers=small)
        refused(answer, 429, "rate-limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 24 * 3600
        assert "id" in await sent(http, headers=large)
        used = (await http.get("/v1/usage", headers=small)).json()
        assert used["tenant"] == "acme" and used["quota"]["photos_per_day"] == 2
        assert used["today"] == used["month"] and (used["today"]["claims"], used["today"]["photos"]) == (2, 2)


async def test_a_tenant_with_its_share_of_open_claims_is_429_while_another_is_served(
    tmp_path: Path, redis_url: str
) -> None:
    first, second = [bearing(await key(tmp_path, tenant)) for tenant in ("acme", "other")]
    async with gateway(tmp_path, redis_url, Fakes(), worker=False, quota={"open_claims": 2}) as http:
        for _ in range(2):
            assert "id" in await sent(http, headers=first)
        answer = await http.post("/v1/claims", files=[("photos", ("a.jpg", photo(RED)))], headers=first)
        refused(answer, 429, "rate-limited")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "id" in await sent(http, headers=second)


async def test_simultaneous_uploads_cannot_overshoot_the_share(tmp_path: Path, redis_url: str) -> None:
    mine = bearing(await key(tmp_path, "acme"))
    async with gateway(tmp_path, redis_url, Fakes(), worker=False, quota={"photos_per_day": 3}) as http:
        answers = await asyncio.gather(*(sent(http, headers=mine) for _ in range(8)))
        assert sum("id" in answer for answer in answers) == 3

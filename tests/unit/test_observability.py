"""What operators watch exists, alerts fire on what they are for, each has a runbook, and logs hold nobody's data."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from prometheus_client import REGISTRY

from services.common.serving import session, telemetry  # noqa: F401 - whoever defines metrics is imported
from services.common.serving.errors import NotReady
from services.gateway import ids, measures
from services.gateway.app import build_app
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import client, gateway, settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture
def logs_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "claimsight.json").read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_every_metric_that_is_watched_is_one_that_is_measured() -> None:
    known = {family.name: family.type for family in REGISTRY.collect()}
    for expression in expressions():
        names = set(re.findall(r"claimsight_\w+", expression))
        assert names or "up{" in expression or "process_" in expression, expression
        for name in names:
            family = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert family in known or name in known, name
            if known.get(family) == "counter":
                assert name == f"{family}_total", f"{name} is a counter"


def test_every_alert_has_a_runbook_of_its_name() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    runbooks = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert {rule["alert"] for rule in rules()} == set(runbooks)
    for name, steps in runbooks.items():
        assert len(steps.split()) > 25, f"{name} says too little to act on"


def test_a_room_whose_name_has_left_dns_is_missed() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (found,) = config["scrape_configs"][0]["dns_sd_configs"]
    (expression,) = (rule["expr"] for rule in rules() if rule["alert"] == "RoomDown")
    assert set(re.findall(r'absent\(up\{job="claimsight", room="([\w-]+)"\}\)', expression)) == set(found["names"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_itself_takes_the_rules_and_fires_them_on_what_they_are_for() -> None:
    folder = DEPLOY / "prometheus"
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_a_claims_end_and_its_photos_are_counted(tmp_path: Path, redis_url: str) -> None:
    before = [
        counted("claimsight_claims_total", outcome="partial"),
        counted("claimsight_photos_total", outcome="succeeded"),
        counted("claimsight_photos_total", outcome="photo-undecodable"),
        counted("claimsight_claim_seconds_count"),
    ]
    sent = [("photos", ("a.jpg", photo(RED), "image/jpeg")), ("photos", ("b.jpg", photo(RED)[:300], "image/jpeg"))]
    async with gateway(tmp_path, redis_url, Fakes()) as http:
        answer = await http.post("/v1/claims", files=sent, headers={"Prefer": "wait=20"})
        assert answer.json()["partial"] is True
    after = [
        counted("claimsight_claims_total", outcome="partial"),
        counted("claimsight_photos_total", outcome="succeeded"),
        counted("claimsight_photos_total", outcome="photo-undecodable"),
        counted("claimsight_claim_seconds_count"),
    ]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1]


async def test_the_age_of_the_oldest_claim_is_measured_even_where_no_worker_lives(
    tmp_path: Path, redis_url: str
) -> None:
    app = build_app(settings(tmp_path, redis_url), Fakes().clients)
    async with app.router.lifespan_context(app), client(app) as http:
        await http.post("/v1/claims", files=[("photos", ("a.jpg", photo(RED), "image/jpeg"))])
        await measures.measure(app.state.runtime.claims, app.state.runtime.queue)
        assert 0 < counted("claimsight_queue_oldest_seconds", lane="interactive") < 60
        assert counted("claimsight_queue_oldest_seconds", lane="batch") == 0
        assert counted("claimsight_unfinished_claims") == 1


async def test_what_waits_is_measured_again_when_the_records_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def measure(claims: object, queue: object) -> None:
        asked.append(len(asked))
        if len(asked) == 1:
            raise NotReady("away")
        raise KeyboardInterrupt  # the only way out of a loop that must survive everything else

    monkeypatch.setattr(measures, "measure", measure)
    monkeypatch.setattr(measures, "_EVERY_S", 0)
    with pytest.raises(KeyboardInterrupt):
        await measures.keep(object(), object())  # type: ignore[arg-type]
    assert asked == [0, 1]


async def test_no_log_line_of_a_claims_life_names_its_customer(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str], logs_restored: None
) -> None:
    telemetry.configure_logging("debug", "json")
    private = ("VD-384756", "policy-2210-Keller", "secret-plate.jpg", "Jane.Keller@example.org")
    sent = [("photos", (private[2], photo(RED), "image/jpeg")), ("photos", (private[2], b"not a photo", "image/jpeg"))]
    async with gateway(tmp_path, redis_url, Fakes()) as http:
        headers = {"Prefer": "wait=20", "User-Agent": private[3], "Authorization": f"Bearer {private[0]}"}
        answer = await http.post("/v1/claims", files=sent, data={"external_ref": private[1]}, headers=headers)
        await http.get("/v1/claims", params={"external_ref": private[1]}, headers=headers)
        await http.get(f"/v1/claims/{ids.new('clm')}?plate={private[0]}")
        await http.post("/v1/claims", content=private[0].encode(), headers={"Content-Type": "multipart/form-data"})
    written = "".join(capsys.readouterr())
    assert '"event": "request"' in written
    assert answer.status_code < 500
    for word in private:
        assert word not in written

"""docs/api.md says what is so: routes, problem types, reasons, settings and their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services import VERSION
from services.common.serving.errors import Problem
from services.gateway import apidoc
from services.gateway.assessment.reasons import SENTENCES
from services.gateway.settings import MEBIBYTE, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
DEFAULTS = {
    "max_photos": "20",
    "max_photo_bytes": "20 MiB",
    "max_claim_bytes": "100 MiB",
    "max_photo_pixels": "50 million",
    "max_queue": "200",
    "max_findings": "30",
    "claim_patience_seconds": "1 hour",
    "claim_deadline_seconds": "24 hours",
}
UNITS = {"MiB": MEBIBYTE, "million": 1_000_000, "hour": 3600, "hours": 3600}


def test_the_routes_and_examples_are_those_of_the_schema() -> None:
    assert apidoc.current(PAGE, apidoc.schema()) == PAGE, "run: python -m services.gateway.apidoc"


def test_the_table_has_every_type_of_problem_with_its_status_and_no_other() -> None:
    kinds: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
    known = {(kind.slug, kind.status) for kind in kinds}
    told = {(slug, int(status)) for slug, status in re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", PAGE, re.MULTILINE)}
    assert told == known


def test_every_reason_is_there() -> None:
    assert [code for code in SENTENCES if f"`{code}`" not in PAGE] == []


@pytest.mark.parametrize(("setting", "told"), DEFAULTS.items())
def test_limits_are_the_settings_defaults(setting: str, told: str) -> None:
    assert re.search(rf"\| {told}[^|]*\| `{setting}` \|", PAGE)
    number, _, unit = told.partition(" ")
    assert Settings.model_fields[setting].default == int(number) * UNITS.get(unit, 1)


def test_the_schema_says_of_which_product_it_is() -> None:
    info = apidoc.schema()["info"]
    assert (info["title"], info["version"], info["license"]["identifier"]) == ("Claimsight", VERSION, "Apache-2.0")
    assert "vehicle-damage" in info["summary"] and "Authorization: Bearer" in info["description"]
    assert "contact" not in info

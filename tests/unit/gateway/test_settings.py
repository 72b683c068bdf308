"""Settings with lists in them are read at start, not at the first request that they would have let through."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.gateway.settings import Settings, listed


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hosts", "claims.example.org:8080"),
        ("hosts", "https://claims.example.org"),
        ("photo_hosts", "images.example/photos"),
        ("photo_hosts", "*"),
        ("private_receivers", "10.1.0.0/33"),
        ("private_receivers", "10.1/16"),
        ("private_receivers", "10.0.0.300"),
        ("private_receivers", "crm.intern:8443"),
    ],
)
def test_an_entry_that_could_never_match_is_named(setting: str, value: str) -> None:
    with pytest.raises(ValidationError, match=f"'{value.replace('*', '.')}' is not a"):
        Settings.model_validate({setting: f"first.example,{value}"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hosts", "claims.example.org, intranet,"),
        ("hosts", "*"),
        ("photo_hosts", "images.example.org,127.0.0.1"),
        ("private_receivers", "crm.intern,10.1.0.0/16,10.1.2.3/16,fd00::/8,127.0.0.1"),
    ],
)
def test_names_addresses_and_networks_are_taken(setting: str, value: str) -> None:
    assert getattr(Settings.model_validate({setting: value}), setting) == value


def test_an_empty_list_has_no_entry() -> None:
    assert listed("") == [] and listed(" a, ,b ") == ["a", "b"]

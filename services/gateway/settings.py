"""The gateway's and its worker's settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict
from redis.asyncio.connection import parse_url

from services.common.serving.settings import ServiceSettings
from services.gateway import apikeys
from services.gateway.quotas import Quota

MEBIBYTE = 1024 * 1024
_NAME = re.compile(r"(?![\d.]*$)[\w-]+(\.[\w-]+)*", re.ASCII)  # as browsers send it; digits alone are an address


def _parsed(parse: Callable[[str], object], entry: str, wanted: str) -> None:
    try:
        parse(entry)
    except ValueError:
        raise ValueError(f"{entry!r} is not {wanted}") from None


def listed(value: str) -> list[str]:
    """The entries of a setting that has commas between them."""
    return [entry.strip() for entry in value.split(",") if entry.strip()]


class Settings(ServiceSettings):
    """`CLAIMSIGHT_GATEWAY_<NAME>`, `--<name>` or a secret file named by `CLAIMSIGHT_GATEWAY_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_GATEWAY_")

    port: int = 8080
    hosts: str = Field(
        "",
        description="names under which browsers may reach the gateway, beside localhost, --host and addresses, and "
        "whose pages may send claims: claims.example.org,intranet; * for every name",
    )
    data: Path = Field(Path("data"), description="folder of the records and photos, unless the next two say otherwise")
    database_url: str = Field("", description="sqlite:///path or postgresql://user:password@host/name")
    photos_url: str = Field("", description="a folder, or s3://bucket/prefix")
    redis_url: str = Field("redis://127.0.0.1:6379", description="Redis or Valkey: the queue")

    admin_key: SecretStr | None = Field(
        None, description="an API key with every scope for the tenant `default`, made known at start"
    )
    dev: bool = Field(False, description="serve without keys even where others can reach it: for development only")
    quota: Quota = Field(Quota(), description='each tenant\'s share, as JSON: {"photos_per_day": 5000}')
    quotas: dict[str, Quota] = Field({}, description='tenants with another: {"acme": {"open_claims": 500}}')

    internal_key: SecretStr | None = Field(None, min_length=32, description="the secret that model services ask for")
    segmenter_url: str = "http://127.0.0.1:8001"
    classifier_url: str = "http://127.0.0.1:8002"
    retrieval_url: str = "http://127.0.0.1:8003"
    generator_url: str = Field(
        "", description="where a generator runs, http://127.0.0.1:8004; empty: generation is off"
    )
    training_url: str = Field("", description="a folder or s3://... for generated training pictures without mark")
    max_generations: int = Field(50, ge=1, description="unfinished generations; beyond it one is refused with 503")

    max_photos: int = Field(20, ge=1, description="per claim")
    max_photo_bytes: int = Field(20 * MEBIBYTE, ge=1)
    max_claim_bytes: int = Field(100 * MEBIBYTE, ge=1, description="all photos of a claim together")
    max_photo_pixels: int = Field(50_000_000, ge=1, description="by the header, before anything is decoded")
    max_batch_photos: int = Field(10_000, ge=1, description="in one batch, and lines of its manifest")
    max_queue: int = Field(200, ge=1, description="unfinished claims; beyond it a claim is refused with 503")

    private_receivers: str = Field(
        "",
        description="names, addresses and networks of your own that webhooks may reach, over http too: "
        "crm.intern,10.1.0.0/16; everything else must be public and https",
    )

    photo_hosts: str = Field(
        "", description="hosts whose https URLs are taken as photos: images.example.org,cdn.example; empty: none"
    )
    reuse: bool = Field(True, description="a tenant's same photo under the same models is not assessed twice")
    retention_days: float = Field(0, ge=0, description="claims are erased so long after their end; 0: kept for ever")
    sweep_seconds: float = Field(60, gt=0, description="how often it is looked for what is to be erased")

    worker_concurrency: int = Field(2, ge=1, description="claims at once: one decodes while another is at a model")
    lock_seconds: float = Field(10, gt=0, description="a worker silent for so long loses its claim to another")
    worker_deaths: int = Field(5, ge=1, description="a claim that outlives so many workers is given up at the next one")
    requeue_seconds: float = Field(15, gt=0, description="how often the records are compared with the queue")
    claim_patience_seconds: float = Field(3600, gt=0, description="how long a claim waits for a model service")
    claim_deadline_seconds: float = Field(
        86_400, ge=1, description="a claim not concluded so long after its acceptance ends expired; batches aside"
    )
    drain_seconds: float = Field(25, gt=0, description="time for claims in flight when the worker is stopped")

    review_lease_seconds: float = Field(180, gt=0, description="how long a finding stays with a silent reviewer")

    tau: float = Field(0.6, ge=0, le=1, description="accept a calibrated probability above it (CropResMoE)")
    blend: float = Field(0.7, ge=0, le=1, description="lambda: the model's share beside the neighbours' vote")
    neighbours: int = Field(15, ge=1, le=100, description="k of the vote")
    sure_damage: float = Field(0.5, ge=0, le=1, description="detection score below which a damage goes to review")
    fake_doubt: float = Field(0.3, ge=0, le=1, description="fake score from which a damage goes to review")
    least_vehicle: float = Field(0.02, ge=0, le=1, description="share of a photo that a vehicle must cover")
    max_findings: int = Field(30, ge=1, description="per photo, the surest first")

    @field_validator("admin_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and apikeys.parse(value.get_secret_value()) is None:
            raise ValueError("make one with: python -m services.gateway.keys make")  # no default can pass for a secret
        return value

    @field_validator("hosts", "photo_hosts")
    @classmethod
    def _are_hosts(cls, value: str, info: ValidationInfo) -> str:
        for entry in listed(value):
            every = info.field_name == "hosts" and entry == "*"
            if not every and not _NAME.fullmatch(entry):
                _parsed(ip_address, entry, "a host name or an address, without scheme, port or path")
        return value

    @field_validator("private_receivers")
    @classmethod
    def _are_receivers(cls, value: str) -> str:
        for entry in listed(value):
            if not _NAME.fullmatch(entry):
                _parsed(lambda text: ip_network(text, strict=False), entry, "a host name, an address or a network")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        parse_url(value)
        return value

    @property
    def allowed_hosts(self) -> list[str]:
        return listed(self.hosts)

    @property
    def records(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'records.db'}"

    @property
    def photo_store(self) -> str:
        return self.photos_url or str(self.data / "store")

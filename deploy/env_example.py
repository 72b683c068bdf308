"""Writes .env.example from the services' settings: `python -m deploy.env_example` after one came, changed or went.

Compose gives `.env` to every room, and what docker-compose.yml sets itself wins: those settings are left out here.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from services.classifier.settings import Settings as Classifier
from services.common.serving.settings import ServiceSettings
from services.gateway.settings import Settings as Gateway
from services.generator.settings import Settings as Generator
from services.retrieval.settings import Settings as Retrieval
from services.segmenter.settings import Settings as Segmenter

ROOT = Path(__file__).parents[1]
ROOMS: dict[str, type[ServiceSettings]] = {
    "gateway": Gateway,  # and its worker
    "segmenter": Segmenter,
    "classifier": Classifier,
    "retrieval": Retrieval,
    "generator": Generator,
}
_OF_THE_IMAGE = {
    "host",
    "port",
    "pack",
    "log_format",
    "dev",
}  # given by the image; another pack needs its folder mounted
_HEAD = """\
# Copy to .env where another value is wanted. Every line shows the default; those with # in front are each service's own
# settings. Made by `python -m deploy.env_example`.

# Port of this machine's loopback address on which `docker compose up` publishes the gateway.
PORT=8080

# Names under which a proxy in front shows the gateway to browsers: claims.example.org,intranet; * for every name.
HOSTS=

# debug | info | warning | error, for every service.
LOG_LEVEL=info

# Which GPU each model service gets (only with compose.gpu.yml).
SEGMENTER_GPU=0
CLASSIFIER_GPU=0

# Port of this machine's loopback address for Grafana (only with --profile observability).
GRAFANA_PORT=3000

# With --profile generator: where the gateway finds it, http://generator:8000; empty: generation is off. The volume
# `generator` holds base/ (a diffusers model) and signing/ (python -m services.generator.keys --out signing).
GENERATOR_URL=
"""


def example() -> str:
    """The whole file."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    parts = [_HEAD]
    for room, settings in ROOMS.items():
        parts.append(f"\n# ---- {room} ----\n" if room != "gateway" else "\n# ---- gateway and gateway-worker ----\n")
        fixed = set(compose[room]["environment"])
        for field, info in settings.model_fields.items():
            name = f"{settings.model_config.get('env_prefix')}{field}".upper()
            if field not in _OF_THE_IMAGE and not {name, f"{name}_FILE"} & fixed and not _secret(info):
                parts.append(_line(name, info))
    return "".join(parts)


def _line(name: str, info: FieldInfo) -> str:
    shown = f"#{name}={_spelt(info.get_default(call_default_factory=True))}\n"
    told = textwrap.wrap(info.description or "", 118)
    return "".join(f"# {line}\n" for line in told) + shown


def _spelt(value: Any) -> str:
    """A default as a person would write it into the environment."""
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _secret(info: FieldInfo) -> bool:
    return SecretStr in (info.annotation, *getattr(info.annotation, "__args__", ()))


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(example(), encoding="utf-8")

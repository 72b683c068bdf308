"""The generator's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.serving.settings import RoomSettings


class Settings(RoomSettings):
    """`CLAIMSIGHT_GENERATOR_<NAME>`, `--<name>` or a secret file named by `CLAIMSIGHT_GENERATOR_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_GENERATOR_")

    port: int = Field(8004, ge=0, le=65535)
    base_model: Path | None = Field(None, description="folder of the diffusion model; without one nothing is generated")

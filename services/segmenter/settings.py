"""The segmenter's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.serving.settings import ModelSettings


class Settings(ModelSettings):
    """`CLAIMSIGHT_SEGMENTER_<NAME>`, `--<name>` or a secret file named by `CLAIMSIGHT_SEGMENTER_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_SEGMENTER_")

    port: int = Field(8001, ge=0, le=65535)
    pack: Path = Field(Path("models/albert"), description="model pack: a version folder, or its newest version")
    # On two cores a batch of eight photos is 10 % faster per photo, and keeps each of them waiting eight times as long.
    max_batch: int = Field(2, ge=1, le=64, description="photos in one run, at most what the pack allows")
    queue_rows: int = Field(32, ge=1, description="photos that may wait for the model; beyond it 503")

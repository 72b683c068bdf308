"""The classifier's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.serving.settings import ModelSettings


class Settings(ModelSettings):
    """`CLAIMSIGHT_CLASSIFIER_<NAME>`, `--<name>` or a secret file named by `CLAIMSIGHT_CLASSIFIER_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_CLASSIFIER_")

    port: int = Field(8002, ge=0, le=65535)
    pack: Path = Field(Path("models/cropresmoe"), description="model pack: a version folder, or its newest version")
    queue_rows: int = Field(512, ge=1, description="crops that may wait for the model; beyond it 503")
    max_crops: int = Field(256, ge=1, description="crops in one request")

"""The generator's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.serving.settings import RoomSettings


class Settings(RoomSettings):
    """`CLAIMSIGHT_GENERATOR_<NAME>`, `--<name>` or a secret file named by `CLAIMSIGHT_GENERATOR_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_GENERATOR_")

    port: int = Field(8004, ge=0, le=65535)
    base_model: Path | None = Field(
        None, description="diffusers folder of an SDXL or SD 1.5 model; without one nothing is generated"
    )
    lora: Path | None = Field(None, description="folder of a merged LoRA; it is fused into the base when loading")
    signing: Path | None = Field(
        None,
        description="folder with chain.pem and key.pem, which sign every picture (python -m services.generator.keys)",
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: a GPU where there is one")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field("auto", description="auto: fp16 on a GPU, else fp32")
    compile: bool = Field(False, description="torch.compile the U-Net: the first picture of a size takes minutes")
    tiling: bool = Field(False, description="decode in tiles: less memory for large pictures")

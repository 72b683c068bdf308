"""What the doctor reads: the same environment variables and secret files as the services it looks after."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from services.common.serving.settings import ServiceSettings


class Settings(ServiceSettings):
    """`CLAIMSIGHT_<SERVICE>_<NAME>`, or a file named by `CLAIMSIGHT_<SERVICE>_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_")

    data: Path = Path("data")
    gateway_data: Path | None = None
    gateway_redis_url: str = ""
    gateway_database_url: str = ""
    segmenter_pack: Path = Path("models/albert")
    classifier_pack: Path = Path("models/cropresmoe")
    retrieval_pack: Path = Path("models/memory")
    segmenter_require_gpu: bool = False
    classifier_require_gpu: bool = False
    segmenter_engines: Path | None = None
    classifier_engines: Path | None = None

    @property
    def folder(self) -> Path:
        """Where records and photos lie."""
        return self.gateway_data or self.data

    @property
    def needs_gpu(self) -> bool:
        return self.segmenter_require_gpu or self.classifier_require_gpu

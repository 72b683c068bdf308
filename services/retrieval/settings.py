"""The retrieval service's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.serving.settings import RoomSettings


class Settings(RoomSettings):
    """`CLAIMSIGHT_RETRIEVAL_<NAME>`, `--<name>` or a secret file named by `CLAIMSIGHT_RETRIEVAL_<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_RETRIEVAL_")

    port: int = Field(8003, ge=0, le=65535)
    pack: Path = Field(Path("models/memory"), description="memory pack: a version folder, or its newest version")
    data: Path = Field(Path("data/memory"), description="folder of the index, and of the rows unless the next says so")
    database_url: str = Field("", description="sqlite:///path or postgresql://user:password@host/name")

    @property
    def rows_url(self) -> str:
        """The database of the rows."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'rows.db'}"

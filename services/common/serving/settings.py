"""Settings: one class per service, one field per setting, from flags, environment variables or secret files.

`CLAIMSIGHT_SEGMENTER_PORT=8001`, `--port 8001` and a file named by `CLAIMSIGHT_SEGMENTER_PORT_FILE` all set `port`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class _FileSecrets(PydanticBaseSettingsSource):
    """`NAME_FILE` names a file that holds the value of `NAME` (the convention of container secrets)."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        prefix = str(self.config.get("env_prefix", ""))
        path = os.environ.get(f"{prefix}{field_name}_FILE".upper())
        value = Path(path).read_text(encoding="utf-8").strip() if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class ServiceSettings(BaseSettings):
    """What every service has. Subclasses set `env_prefix` and add their own fields."""

    model_config = SettingsConfigDict(env_prefix="CLAIMSIGHT_", extra="ignore", cli_kebab_case=True)

    host: str = "127.0.0.1"
    port: int = 8080
    log_level: str = "info"
    log_format: str = "json"  # json | console

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (sources["init_settings"], sources["env_settings"], _FileSecrets(settings_cls))

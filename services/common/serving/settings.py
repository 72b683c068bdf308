"""Settings: one class per service, one field per setting, from flags, environment variables or secret files.

`CLAIMSIGHT_SEGMENTER_PORT=8001`, `--port 8001` and a file named by `CLAIMSIGHT_SEGMENTER_PORT_FILE` all set `port`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict


class InvalidSettings(Exception):
    """A setting is not valid. The message names each one that is not, and what would be."""


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

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every one of this machine")
    port: int = Field(8080, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    grace_seconds: float = Field(
        1, ge=0, description="after SIGTERM it says so long that it is not ready, and still answers; Ctrl-C skips it"
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus metrics, on a port of their own; 0: nowhere")

    @classmethod
    def from_command_line(cls, prog: str, arguments: list[str] | None = None) -> Self:
        """Read flags, then environment, then secret files. A value that does not fit ends the process, saying which."""
        try:
            return cls._read(
                lambda name: f"--{name.replace('_', '-')}",
                _cli_parse_args=sys.argv[1:] if arguments is None else arguments,
                _cli_prog_name=prog,
            )
        except InvalidSettings as error:
            sys.exit(f"{prog}: {error}")

    @classmethod
    def from_environment(cls, **known: object) -> Self:
        """`known` values, then environment, then secret files: for a service that has no command line of its own.

        Raises InvalidSettings.
        """
        return cls._read(lambda name: f"{cls.model_config.get('env_prefix', '')}{name}".upper(), **known)

    @classmethod
    def _read(cls, spelt: Callable[[str], str], **values: Any) -> Self:
        """`spelt` makes of a field's name what the person has to write."""
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [f"{spelt('.'.join(map(str, e['loc'])))}: {e['msg']}" for e in error.errors()]
            raise InvalidSettings("\n".join(["A setting is not valid.", *lines])) from error
        except OSError as error:
            raise InvalidSettings(f"The secret file {error.filename} cannot be read: {error.strerror}") from error

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (sources["init_settings"], sources["env_settings"], _FileSecrets(settings_cls))


class RoomSettings(ServiceSettings):
    """What every service has that only the gateway and its worker ask."""

    dev: bool = Field(False, description="answer anybody even where others can reach it: for development only")
    internal_key: SecretStr | None = Field(
        None, min_length=32, validate_default=True, description="the secret that the gateway shows, the same in each"
    )

    @field_validator("internal_key")
    @classmethod
    def _needed_where_others_are(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and not info.data.get("dev") and not is_loopback(str(info.data.get("host"))):
            raise ValueError(
                f"needed on {info.data.get('host')}, where others can reach this service. Give it and the gateway the "
                "same 32 or more random characters (openssl rand -hex 32), or set --dev true"
            )
        return value


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ModelSettings(RoomSettings):
    """What a service with one model has."""

    pack: Path = Field(description="model pack: a version folder, or a folder whose newest version is meant")
    provider: Literal["auto", "tensorrt", "cuda", "openvino", "cpu"] = Field("auto", description="auto: the fastest")
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        "auto", description="auto: fp16 on a GPU, int8 on a CPU, fp32 where the pack has neither"
    )
    require_gpu: bool = Field(False, description="rather fail than run without a GPU")
    threads: int = Field(0, ge=0, le=256, description="of one model run on the CPU; 0: the cores this process may use")
    max_batch: int = Field(8, ge=1, le=64, description="rows in one run, at most what the pack allows")
    queue_rows: int = Field(64, ge=1, description="rows that may wait for the model; beyond it 503")
    engines: Path | None = Field(None, description="folder where TensorRT keeps its engines between starts")
    instances: int = Field(1, ge=1, le=16, description="copies of the model, each with its own queue and thread")
    gpus: Annotated[list[Annotated[int, Field(ge=0)]], NoDecode] = Field(
        [0], min_length=1, description="devices that the instances take in turn: 0,1"
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value

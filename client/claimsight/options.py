"""What every command takes."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", envvar="CLAIMSIGHT_URL", help="where the gateway is")]
Key = Annotated[str | None, typer.Option("--key", envvar="CLAIMSIGHT_API_KEY", help="API key, where one is needed")]

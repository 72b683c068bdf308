"""Who may ask a model service: whoever holds the secret that all rooms of one house share."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.serving.errors import Unauthorized


class InternalKeyMiddleware:
    """Refuse everything but health checks without `Authorization: Bearer <key>`, compared in constant time.

    What it raises is answered by the middleware around it.
    """

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self.app = app
        self._expected = bearer(key)["Authorization"].encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/health/"):
            sent = Headers(scope=scope).get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(sent, self._expected):
                raise Unauthorized(
                    "This service answers its own house only: give it and the gateway the same internal_key."
                )
        await self.app(scope, receive, send)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}

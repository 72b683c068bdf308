"""Which version of each model answers claims, and what another would have said; for the operator's admin."""

from __future__ import annotations

from typing import Literal

from claimsight.models import Comparison, Packs, ServicePacks
from claimsight.transport import Transport

Service = Literal["segmenter", "classifier"]


class PackRoutes:
    """`claimsight.packs`. While a version is still loading, a call waits as long as the client is patient."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def versions(self) -> Packs:
        return Packs.model_validate_json(self._transport.send("GET", "/v1/packs").content)

    def activate(self, service: Service, version: str) -> ServicePacks:
        """Let a version answer every claim that is begun from now on. Refused where it cannot be served."""
        return self._rule("POST", f"{service}/activate", {"version": version})

    def roll_back(self, service: Service) -> ServicePacks:
        """Activate what answered before. Doing it again would undo it, so a broken connection is not tried again."""
        return self._rule("POST", f"{service}/rollback", repeatable=False)

    def canary(self, service: Service, version: str, share: float) -> ServicePacks:
        """Let a version look at a share of the finished claims, beside what answered them."""
        return self._rule("PUT", f"{service}/canary", {"version": version, "share": share})

    def end_canary(self, service: Service) -> ServicePacks:
        return self._rule("DELETE", f"{service}/canary")

    def comparisons(self) -> list[Comparison]:
        """How alike two packs answered, the latest pair first."""
        answer = self._transport.send("GET", "/v1/packs/comparisons").json()
        return [Comparison.model_validate(line) for line in answer["data"]]

    def _rule(
        self, method: str, path: str, body: dict[str, str | float] | None = None, *, repeatable: bool = True
    ) -> ServicePacks:
        answer = self._transport.send(
            method, f"/v1/packs/{path}", body=(lambda: {"json": body}) if body else None, repeatable=repeatable
        )
        return ServicePacks.model_validate_json(answer.content)

"""Which version of each model answers: read from the records, so that every process goes by the same."""

from __future__ import annotations

from services.common.serving.errors import PackRefused
from services.common.serving.protocols import Classifier, Segmenter
from services.gateway.assessment.clients import Clients
from services.gateway.records.packs import PackStore, Rule


class Rules:
    def __init__(self, store: PackStore, clients: Clients) -> None:
        self._store = store
        self._clients = clients

    async def follow(self) -> dict[str, Rule]:
        """The rules as they are now, by which the clients ask from here on."""
        rules = await self._store.rules()
        for service, rule in rules.items():
            client(self._clients, service).pack = rule.active
        return rules

    async def activate(self, service: str, version: str) -> None:
        """Let `version` answer every claim that is begun from now on.

        Raises NotReady while it loads, PackRefused and NotFound where it cannot be: then nothing has changed.
        """
        rule = (await self.follow())[service]
        answers = rule.active or await self._own(service)
        if version != answers:
            await self._must_fit(service, version)
            await self._store.rule(service, rule.activated(version, instead_of=answers))
            await self.follow()

    async def roll_back(self, service: str) -> None:
        """Activate what answered before. Raises PackRefused where nothing did, and what `activate` raises."""
        previous = (await self.follow())[service].previous
        if previous is None:
            raise PackRefused(f"No other pack has answered in the {service} before. Activate one by its version.")
        await self.activate(service, previous)

    async def canary(self, service: str, version: str | None, share: float) -> None:
        """Let `version` see that share of the claims, beside what answers; None ends it. Raises as `activate` does."""
        rule = (await self.follow())[service]
        if version is not None:
            if version == (rule.active or await self._own(service)):
                raise PackRefused(f"{version} is what answers already: there is nothing to compare it with.")
            await self._must_fit(service, version)
        await self._store.rule(service, rule.trying(version, share if version else 0.0))

    async def _own(self, service: str) -> str | None:
        packs = await client(self._clients, service).packs()
        return next((pack.version for pack in packs if pack.own), None)

    async def _must_fit(self, service: str, version: str) -> None:
        """Loaded, proven, and of the other model's vocabulary."""
        wanted = await client(self._clients, service).at(version).info(fresh=True)
        (other,) = [name for name in ("segmenter", "classifier") if name != service]
        if wanted.names_hash != (await client(self._clients, other).info()).names_hash:
            raise PackRefused(
                f"{wanted.model.name} {version} speaks other names than the {other}'s pack. Packs with another "
                "vocabulary are served together, from a start: CLAIMSIGHT_..._PACK."
            )


def client(clients: Clients, service: str) -> Segmenter | Classifier:
    return clients.segmenter if service == "segmenter" else clients.classifier

"""The three model services that an assessment asks, and the generator, as one value."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from services.common.serving.errors import NotFound, NotReady, PackRefused
from services.common.serving.generator_client import HttpGenerator
from services.common.serving.protocols import Classifier, Retrieval, Segmenter
from services.common.serving.schemas import ModelInfo


@dataclass(frozen=True, slots=True)
class Clients:
    segmenter: Segmenter
    classifier: Classifier
    retrieval: Retrieval
    generator: HttpGenerator | None = None  # off where there is none; no assessment asks it

    def asking(self, segmenter: str | None, classifier: str | None) -> Clients:
        """The same services, always asked for these versions of their packs."""
        return replace(self, segmenter=self.segmenter.at(segmenter), classifier=self.classifier.at(classifier))

    def pinned(self) -> Clients:
        """As they ask now, whatever is activated meanwhile: one claim is answered by one version of each."""
        return self.asking(self.segmenter.pack, self.classifier.pack)

    async def matching(self, *, fresh: bool = False) -> tuple[ModelInfo, ModelInfo]:
        """The segmenter's and the classifier's info. Raises Problem, and NotReady where they speak different names."""
        try:
            segmenter, classifier = await asyncio.gather(
                self.segmenter.info(fresh=fresh), self.classifier.info(fresh=fresh)
            )
        except (NotFound, PackRefused) as lost:  # the active version's folder is gone: no fault of a photo
            raise NotReady(lost.detail) from lost
        if segmenter.names_hash != classifier.names_hash:
            raise NotReady("The segmenter's pack and the classifier's speak different names. Serve packs that match.")
        return segmenter, classifier

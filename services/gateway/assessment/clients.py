"""The three model services that an assessment asks, and the generator, as one value."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.common.serving.clients import Classifier, Retrieval, Segmenter
from services.common.serving.errors import NotReady
from services.common.serving.generator_client import HttpGenerator
from services.common.serving.schemas import ModelInfo


@dataclass(frozen=True, slots=True)
class Clients:
    segmenter: Segmenter
    classifier: Classifier
    retrieval: Retrieval
    generator: HttpGenerator | None = None  # off where there is none; no assessment asks it

    async def matching(self, *, fresh: bool = False) -> tuple[ModelInfo, ModelInfo]:
        """The segmenter's and the classifier's info. Raises Problem, and NotReady where they speak different names."""
        segmenter, classifier = await asyncio.gather(
            self.segmenter.info(fresh=fresh), self.classifier.info(fresh=fresh)
        )
        if segmenter.names_hash != classifier.names_hash:
            raise NotReady("The segmenter's pack and the classifier's speak different names. Serve packs that match.")
        return segmenter, classifier

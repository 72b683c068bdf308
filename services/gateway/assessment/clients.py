"""The three model services that an assessment asks, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.serving.clients import Classifier, Retrieval, Segmenter


@dataclass(frozen=True, slots=True)
class Clients:
    segmenter: Segmenter
    classifier: Classifier
    retrieval: Retrieval

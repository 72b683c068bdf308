"""Does a picture show what its prompt asked for? A slot for any judge, and our own models as the default one.

Paper: a language model writes questions and a VQA model answers them (DSG, TIFA); here: our segmenter and classifier,
because they know the damages and parts by name and were never trained on generated pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.albert.report import predictor
from export.convert.to_onnx import session
from export.cropresmoe.evaluate import supported_mask
from export.hers.grammar import Prompt
from services.common.serving.modelpack import load_pack
from services.common.vision.crops import cut_crops
from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.masks import overlap
from services.common.vision.resample import resize
from services.common.vision.vote import calibrated


@dataclass(frozen=True)
class Verdict:
    """`target`: probability that the asked damage is on the asked part; `off_target`: share of found damages that are
    something else or elsewhere; `damages`: how many were found. All from one picture."""

    target: float
    off_target: float
    damages: int


Judge = Callable[[NDArray[np.uint8], Prompt], Verdict]


def open_judge(name: str) -> Judge:
    """`packs` (ours), or `module:function`: a function without arguments that returns a Judge (a VQA model, say)."""
    if name == "packs":
        return PackJudge(Path("models/albert"), Path("models/cropresmoe"))
    module, _, function = name.partition(":")
    judge: Judge = getattr(importlib.import_module(module), function)()
    return judge


class PackJudge:
    """Our segmenter finds damages and parts, our classifier names the damages; both read from packs, on the CPU."""

    def __init__(self, segmenter: Path, classifier: Path) -> None:
        self._segment, self._classify = load_pack(segmenter), load_pack(classifier)
        self._predict = predictor(self._segment)
        self._classifier = session(self._classify.read("fp32"))
        self._supported = supported_mask(self._classify.manifest)

    def __call__(self, photo: NDArray[np.uint8], prompt: Prompt) -> Verdict:
        seg, cls = self._segment.manifest, self._classify.manifest
        outputs = self._predict(resize(photo, seg.input.height, seg.input.width))
        found = decode_instances(outputs, vocabulary=seg.vocabulary, supported=seg.supported, thresholds=seg.thresholds)
        damages, parts = ([each for each in found if each.kind == kind] for kind in ("damage", "part"))
        if not damages or prompt.damage is None:
            return Verdict(0.0, 0.0 if not damages else 1.0, len(damages))
        crops = cut_crops(
            photo, [d.box for d in damages], size=cls.input.height, resize=cls.input.resize, context=cls.input.context
        )
        sure = calibrated(self._classifier.run(["logits"], {"crops": crops})[0], cls.temperature, self._supported)
        meant = np.array([cls.vocabulary.agrees(prompt.damage, name) for name in cls.vocabulary.classes])
        on_part = np.array([self._lies_on(damage, parts, prompt.part) for damage in damages])
        named = sure[:, meant].sum(1) * on_part
        return Verdict(float(named.max()), float((named < 0.5).mean()), len(damages))

    def _lies_on(self, damage: DecodedInstance, parts: list[DecodedInstance], asked: str | None) -> bool:
        """Whether at least a tenth of the damage is on the asked part; where none was asked, everywhere is right."""
        if asked is None:
            return True
        members = {coarse.name: coarse.members for coarse in self._segment.manifest.vocabulary.coarse}
        mine = [part for part in parts if asked == part.label or asked in members.get(part.label, ())]
        if not mine:
            return False
        covered = overlap(damage.mask[None], np.array([part.mask for part in mine]))[0].sum()
        return bool(covered >= 0.1 * damage.mask.sum())

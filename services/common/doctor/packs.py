"""The packs that the services would serve: hashes, golden outputs on this machine, and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.common.doctor.check import Check
from services.common.doctor.settings import Settings
from services.common.serving.contracts import CONTRACTS
from services.common.serving.modelpack import Manifest, Pack, PackError, load_pack
from services.common.serving.session import Choice, SessionError, open_pack


def examine(settings: Settings) -> Iterator[Check]:
    found: dict[str, Manifest] = {}
    for service in ("segmenter", "classifier", "retrieval"):
        field = f"{service}_pack"
        path: Path = getattr(settings, field)
        if field not in settings.model_fields_set and not path.is_dir():
            yield Check(f"pack {service}", "off", f"no {path} here, and CLAIMSIGHT_{field.upper()} is not set")
            continue
        try:
            pack = load_pack(path)
            told = _proven(pack, getattr(settings, f"{service}_require_gpu", False))
        except PackError as error:
            yield Check(f"pack {service}", "fail", str(error), f"Copy {path} again, whole and readable for its user.")
            continue
        except SessionError as error:
            yield Check(f"pack {service}", "fail", str(error), "Mend the providers above first.")
            continue
        found[service] = pack.manifest
        yield Check(f"pack {service}", "ok", f"{pack.manifest.name} {pack.manifest.version}: {told}")
    yield from _fit(found)


def _proven(pack: Pack, require_gpu: bool) -> str:
    """What runs it. Raises PackError and SessionError."""
    contract = CONTRACTS.get(pack.manifest.task)
    if contract is None:
        return "hashes are right"
    session = open_pack(pack, contract, Choice(require_gpu=require_gpu, max_batch=1))
    return f"hashes and golden outputs are right, in {session.ref.precision} on {session.ref.provider}"


def _fit(found: dict[str, Manifest]) -> Iterator[Check]:
    """Packs speak of each other's numbers only where they were made for each other."""
    segmenter, classifier, memory = (found.get(name) for name in ("segmenter", "classifier", "retrieval"))
    if segmenter and classifier and segmenter.names_hash != classifier.names_hash:
        yield Check(
            "packs together",
            "fail",
            "the segmenter's and the classifier's speak different vocabularies",
            "Serve packs that were exported with the same labels.yaml.",
        )
    if classifier and memory and classifier.backbone != memory.backbone:
        yield Check(
            "packs together",
            "warn",
            "the memory was made by another backbone than the classifier's: unsure findings go to review",
            "Serve the memory pack that belongs to this classifier.",
        )

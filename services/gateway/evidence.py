"""The evidence of a finished claim: everything its answer rests on, in one canonical form with its hash."""

from __future__ import annotations

import hashlib

import rfc8785

from services.gateway import present
from services.gateway.records import models

# The caller's own metadata is no part of the assessment, and need not even have a canonical form.
_NOT_EVIDENCE = {"metadata", "links", "queue", "progress"}


def bundle(row: models.Claim) -> bytes:
    """`{"evidence": ..., "sha256": ...}`, where the hash is that of the evidence as it stands there.

    Canonical JSON (RFC 8785): whoever writes the same evidence again gets the same bytes, in any language.
    """
    claim = present.claim(row).model_dump(mode="json", exclude=_NOT_EVIDENCE)
    for shown, photo in zip(claim["photos"], row.photos, strict=True):
        del shown["links"]
        shown["basis"] = photo.view.get("basis")
    canonical = rfc8785.dumps(claim)
    return b'{"evidence":' + canonical + b',"sha256":"' + hashlib.sha256(canonical).hexdigest().encode() + b'"}'

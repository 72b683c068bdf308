"""The same photo looked at by the same models in the same way shows the same: it is not looked at again.

Within one tenant only, so that nobody can find out by asking what others have sent. What the memory of past cases had
a say in, or might have now that people have decided something, is looked at again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import services
from services.gateway import ids, schemas
from services.gateway.assessment.clients import Clients
from services.gateway.assessment.policy import Policy
from services.gateway.records import models
from services.gateway.records.attempts import Outcome
from services.gateway.runtime import Runtime


def basis(policy: Policy) -> dict[str, Any]:
    """All that an answer depends on beside the photo and the models, as it is kept with the answer."""
    return {"software": services.VERSION, "policy": asdict(policy)}


async def reused(runtime: Runtime, clients: Clients, claim: models.Claim, photo: models.Photo) -> Outcome | None:
    """What an earlier look at these bytes found, or None where there was none or things have changed since.

    Raises Problem where the models cannot be asked which they are.
    """
    if not runtime.settings.reuse or photo.sha256 is None:
        return None
    earlier = await runtime.looks.at(claim.tenant, photo.sha256)
    if not earlier:
        return None
    segmenter, classifier = await clients.matching()
    now = {"segmenter": segmenter.model.model_dump(), "classifier": classifier.model.model_dump()}
    for row in earlier:
        models_then = row.view.get("models", {})
        found = [schemas.Finding.model_validate(finding.document) for finding in row.findings]
        if (
            row.view.get("basis") == basis(runtime.policy)
            and all(now.get(name) == ref for name, ref in models_then.items())
            and all(finding.opinion.source == "model" for finding in found)
        ):
            return Outcome(
                width=row.width,
                height=row.height,
                findings=tuple(finding.model_copy(update={"id": ids.new("fnd")}) for finding in found),
                view=row.view | {"cached": True},
                reasons=tuple(schemas.Reason.model_validate(reason) for reason in row.reasons),
            )
    return None

"""The client of Claimsight's public API.

from claimsight import Claimsight

with Claimsight("http://127.0.0.1:8080") as claimsight:
    claim = claimsight.assess("car.jpg", "door.jpg")
    print(claim.summary.route, [finding.title for finding in claim.findings])
"""

from claimsight.client import Claimsight
from claimsight.errors import ClaimsightError, Refused, Unfinished, Unreachable
from claimsight.models import Batch, Claim, Finding, Models, Photo, PhotoCheck

__all__ = [
    "Batch",
    "Claim",
    "Claimsight",
    "ClaimsightError",
    "Finding",
    "Models",
    "Photo",
    "PhotoCheck",
    "Refused",
    "Unfinished",
    "Unreachable",
]

"""What can go wrong between a client and the gateway, each with a sentence that says what to do."""

from __future__ import annotations

from typing import Any


class ClaimsightError(Exception):
    """Base of everything that this package raises on purpose."""


class Unreachable(ClaimsightError):
    """Nothing answers at the gateway's address, or the connection broke more often than was patient."""


class Unfinished(ClaimsightError):
    """A claim or a batch was not final within the time that the caller gave it. It goes on at the gateway."""


class Refused(ClaimsightError):
    """The gateway answered with a problem document (RFC 9457).

    `slug` is the last part of its type (`queue-full`, `photo-undecodable`, ...), `members` all of the document.
    """

    def __init__(self, status: int, members: dict[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.members = members
        self.retry_after = retry_after
        self.slug = str(members.get("type", "")).rpartition(":")[2]
        self.detail = str(members.get("detail") or f"The gateway answered with status {status}.")
        self.request_id = members.get("request_id")
        super().__init__(self.detail)

"""Every error a client can see: RFC 9457 problem+json with a type, a request id and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class Problem(Exception):
    """Base of all answers that are not a success. `detail` says what happened here and what to do.

    Subclasses fix `slug` (the last part of the problem type), `title`, `status` and whether trying again can help.
    Extra keyword arguments become extension members of the problem document (RFC 9457 section 3.2).
    """

    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed inside"
    status: ClassVar[int] = 503
    retry_after: int | None = None  # seconds; sent as Retry-After
    headers: Mapping[str, str] = MappingProxyType({})  # more to send with it

    def __init__(self, detail: str, *, retry_after: int | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        if retry_after is not None:
            self.retry_after = retry_after


class InvalidRequest(Problem):
    slug, title, status = "invalid-request", "The request is not valid", 400


class Unprocessable(Problem):
    slug, title, status = "invalid-request", "The request is not valid", 422


class Unauthorized(Problem):
    slug, title, status = "unauthorized", "An API key is needed", 401
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})  # RFC 6750, section 3


class Forbidden(Problem):
    slug, title, status = "forbidden", "The API key does not allow this", 403


class ForeignHost(Problem):
    slug, title, status = "host-not-allowed", "The request is for another host", 403


class ForeignOrigin(Problem):
    slug, title, status = "origin-not-allowed", "The request comes from another site's page", 403


class NotFound(Problem):
    slug, title, status = "not-found", "There is nothing here", 404


class MethodNotAllowed(Problem):
    slug, title, status = "method-not-allowed", "This address does not know that method", 405


class BodyTimeout(Problem):
    slug, title, status = "body-timeout", "The body came too slowly", 408


class ReviewHeld(Problem):
    slug, title, status = "review-held", "Somebody else is reviewing this", 409


class ReviewChanged(Problem):
    slug, title, status = "review-changed", "This was reviewed meanwhile", 412


class MemoryRefused(Problem):
    slug, title, status = "memory-refused", "The memory does not take this", 409


class PackRefused(Problem):
    slug, title, status = "pack-refused", "The pack cannot be served", 409


class PreconditionRequired(Problem):
    slug, title, status = "precondition-required", "If-Match is missing", 428


class IdempotencyConflict(Problem):
    slug, title, status = "idempotency-conflict", "The first request with this key is still being answered", 409
    retry_after = 1


class AlreadyFinished(Problem):
    slug, title, status = "already-finished", "The claim is finished", 409


class BatchClosed(Problem):
    slug, title, status = "batch-closed", "The batch takes nothing more", 409


class BatchUnfinished(Problem):
    slug, title, status, retry_after = "batch-unfinished", "The batch is not finished yet", 409, 5


class NotFailed(Problem):
    slug, title, status = "not-failed", "The claim has not failed", 409


class NotFinished(Problem):
    slug, title, status = "not-finished", "The claim is not finished yet", 409


class KeyLimit(Problem):
    slug, title, status = "key-limit", "The name has two live keys already", 409


class PayloadTooLarge(Problem):
    slug, title, status = "payload-too-large", "The upload is too large", 413


class TooManyPhotos(Problem):
    slug, title, status = "too-many-photos", "Too many photos in one claim", 413


class UnsupportedMediaType(Problem):
    slug, title, status = "unsupported-media-type", "This type of content is not accepted", 415


class PhotoUndecodable(Problem):
    slug, title, status = "photo-undecodable", "The photo cannot be decoded", 422


class PhotoTooManyPixels(Problem):
    slug, title, status = "photo-too-many-pixels", "The photo has too many pixels", 422


class Generated(Problem):
    slug, title, status = "generated", "The photo is a generated picture", 422


class UrlNotAllowed(Problem):
    slug, title, status = "url-not-allowed", "The URL must not be used", 422


class PhotoUnreachable(Problem):
    slug, title, status = "photo-unreachable", "The photo cannot be fetched", 422


class IdempotencyMismatch(Problem):
    slug, title, status = "idempotency-mismatch", "The key belongs to another request", 422


class RateLimited(Problem):
    slug, title, status = "rate-limited", "Your share is used up", 429


class QueueFull(Problem):
    slug, title, status, retry_after = "queue-full", "The queue is full", 503, 5


class NotReady(Problem):
    slug, title, status, retry_after = "not-ready", "The service is not ready", 503, 5


class DeadlineExceeded(Problem):
    slug, title, status, retry_after = "deadline-exceeded", "The deadline has passed", 504, 1

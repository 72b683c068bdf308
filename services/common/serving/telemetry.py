"""Logs without personal data and metrics with few labels.

A log line names routes, states and ids of our own making; never bodies, query strings, file names or keys.
"""

from __future__ import annotations

import functools
import logging
import sys

import structlog
from prometheus_client import Counter, Gauge, Histogram

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_STAGE_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)

REQUESTS = Counter("claimsight_requests", "Answers by route and status", ["service", "route", "status"])
REQUEST_SECONDS = Histogram(
    "claimsight_request_seconds", "Time to answer", ["service", "route"], buckets=_REQUEST_BUCKETS
)
STAGE_SECONDS = Histogram(
    "claimsight_stage_seconds", "Time per stage of the work", ["service", "stage"], buckets=_STAGE_BUCKETS
)
BATCH_SIZE = Histogram("claimsight_batch_size", "Rows per model run", ["service"], buckets=(1, 2, 4, 8, 16, 32))
BATCH_PADDING = Histogram(
    "claimsight_batch_padding_ratio", "Share of a run that is padding", ["model"], buckets=(0, 0.125, 0.25, 0.375, 0.5)
)
ENGINE_BUILD_SECONDS = Gauge("claimsight_engine_build_seconds", "Time to open an engine", ["model", "bucket"])
QUEUE_DEPTH = Gauge("claimsight_queue_depth", "Rows waiting for the device", ["service"])
REJECTED = Counter("claimsight_rejected", "Work refused", ["service", "reason"])
WEBHOOK_DELIVERIES = Counter("claimsight_webhook_deliveries", "Tries to deliver an event", ["event", "outcome"])
QUEUE_OLDEST_SECONDS = Gauge("claimsight_queue_oldest_seconds", "Age of the oldest unfinished claim", ["lane"])
UNFINISHED_CLAIMS = Gauge("claimsight_unfinished_claims", "Claims that are queued or in work")
CLAIMS = Counter("claimsight_claims", "Claims that ended", ["outcome"])
CLAIM_SECONDS = Histogram(
    "claimsight_claim_seconds",
    "From a claim's acceptance to its end",
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
PHOTOS = Counter("claimsight_photos", "Photos that ended", ["outcome"])
JOBS_RECLAIMED = Counter("claimsight_jobs_reclaimed", "Jobs taken over from a worker that fell silent")
JOBS_PUT_OFF = Counter("claimsight_jobs_put_off", "Times that a job was put back to wait for a service")
MODEL_INFO = Gauge(
    "claimsight_model_info", "1 for the model that runs", ["service", "model", "sha", "precision", "provider"]
)
MODEL_STATE = Gauge("claimsight_model_state", "1 for the state that the model is in", ["service", "state"])
SHED = Counter("claimsight_shed", "Work made smaller to get it done", ["service", "reason"])

_QUIET_ROUTES = ("/health/live", "/health/ready", "/health/startup", "/v1/info")  # probes, every second: debug level

_log = structlog.get_logger("services.access")


def count_request(service: str, route: str, status: int, seconds: float) -> None:
    answered, took = _counters(service, route, status)
    answered.inc()
    took.observe(seconds)


@functools.cache  # labels of few values, looked up for every request
def _counters(service: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(service, route, str(status)), REQUEST_SECONDS.labels(service, route)


def model_state(service: str, state: str) -> None:
    """Of all the states that `service`'s model was in, `state` is 1 and the others are 0."""
    for known in ("loading", "building_engine", "warming", "ready", "failed"):
        MODEL_STATE.labels(service, known).set(known == state)


def log_request(service: str, method: str, route: str, status: int, seconds: float, **why: str) -> None:
    """One line; `why` says more of a request that failed here."""
    log = _log.debug if route in _QUIET_ROUTES else _log.info
    log("request", service=service, method=method, route=route, status=status, ms=round(seconds * 1000, 1), **why)


def configure_logging(level: str = "info", log_format: str = "json") -> None:
    """Send our own and the libraries' log lines through one pipeline to stderr, as JSON or for a console."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.types.Processor]
    if log_format == "console":
        # Never the pretty traceback: it prints local variables, and those can be a client's data.
        plain = structlog.dev.plain_traceback
        renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak from warnings on, whatever the level: below that they tell URLs, and SQL with all it was given.
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    for ours in ("services", "uvicorn"):
        logging.getLogger(ours).setLevel(level.upper())
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)

"""Every operation of the OpenAPI document with generated requests: no answer may be a 500 or a 502.

`python -m benchmarks.fuzz http://127.0.0.1:8080 --examples 200` against a running gateway; the schema is its own.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import httpx2
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Err

_NEVER = frozenset({500, 502})
_ENDLESS = ("text/event-stream",)  # answers that go on until the client leaves


@schemathesis.serializer("application/x-tar", "application/zip", "application/jsonl")
def _raw(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bodies that are bytes in the schema, too."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def fuzz(url: str, examples: int, headers: dict[str, str] | None = None) -> Counter[int]:
    """Send `examples` requests to each operation and count the statuses. Raises AssertionError for a 500 or a 502."""
    document = httpx2.get(f"{url}/openapi.json", timeout=30).raise_for_status().json()
    schema = schemathesis.openapi.from_dict(document)
    statuses: Counter[int] = Counter()
    quick = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for found in schema.get_all_operations():
        if isinstance(found, Err):
            raise found.err()
        operation = found.ok()
        if any(kind in str(operation.definition.raw.get("responses", "")) for kind in _ENDLESS):
            continue

        @quick
        @given(case=operation.as_strategy())
        def send(case: schemathesis.Case[Any]) -> None:
            answer = case.call(base_url=url, headers=headers, timeout=90)
            statuses[answer.status_code] += 1
            assert answer.status_code not in _NEVER, f"{answer.status_code} for {case.as_curl_command()}: {answer.text}"

        send()
    return statuses


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--examples", type=int, default=200, help="requests to each operation")
    parser.add_argument("--key", help="API key, where one is needed")
    options = parser.parse_args()
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else None
    statuses = fuzz(options.url, options.examples, headers)
    print(
        f"{statuses.total()} requests, no 500 and no 502: "
        + ", ".join(f"{s}: {n}" for s, n in sorted(statuses.items()))
    )


if __name__ == "__main__":
    main()

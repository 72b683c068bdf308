"""What an operator reads in the log of a request that failed for a fault of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway


async def test_the_line_of_a_request_says_why_it_failed_here_and_not_what_the_client_did_wrong(
    tmp_path: Path, redis_url: str, fakes: Fakes
) -> None:
    async def line(**form: Any) -> dict[str, Any]:
        with capture_logs() as lines:
            await http.post("/v1/claims", **form)
        return dict(next(line for line in lines if line["event"] == "request"))

    async with gateway(tmp_path, redis_url, fakes, worker=False) as http:
        (tmp_path / "store" / "photos").touch()  # where a folder has to be made
        failed = await line(files={"photos": photo(RED)})
        assert failed["status"] == 503 and failed["why"].startswith("The photo store cannot be reached")
        assert "Error: " in failed["cause"] and "\n" not in failed["cause"]
        refused = await line(files={"Jane Doe": b""})
        assert refused["status"] == 422 and not {"why", "cause"} & set(refused)

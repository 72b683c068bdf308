"""What was canceled or erased holds nobody's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway


async def test_a_withdrawn_claim_leaves_the_queue_though_no_worker_runs(
    tmp_path: Path, redis_url: str, fakes: Fakes
) -> None:
    async def sent(http: httpx2.AsyncClient) -> tuple[int, dict[str, Any]]:
        answer = await http.post("/v1/claims", files={"photos": photo(RED)})
        return answer.status_code, answer.json()

    async with gateway(tmp_path, redis_url, fakes, worker=False, max_queue=1) as http:
        status, first = await sent(http)
        assert status == 202
        assert (await sent(http))[0] == 503
        assert (await http.post(first["links"]["cancel"])).json()["status"] == "canceled"
        status, second = await sent(http)
        assert status == 202
        assert (await sent(http))[0] == 503
        assert (await http.delete(second["links"]["self"])).status_code == 200
        assert (await sent(http))[0] == 202

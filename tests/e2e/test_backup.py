"""The commands of docs/operations.md that back up and restore, typed as they stand there, into a real PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway
from tests.unit.gateway.servers import postgres, postgres_binaries, valkey

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.skipif(postgres_binaries() is None, reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of an empty database of the name that the page's commands give it."""
    binaries = postgres_binaries()
    assert binaries is not None
    with postgres(binaries) as url:
        typed("createdb -U claimsight claimsight", url)
        yield url.replace("/postgres", "/claimsight")


def command(program: str) -> str:
    """The page's one command that begins with `program`, without the container that it runs in."""
    lines = [re.sub("^ {4}docker compose (exec -T [a-z]+|run .* --entrypoint)", "", line) for line in PAGE.splitlines()]
    (found,) = [line.strip() for line in lines if line.strip().startswith(program)]
    return found.replace("tar gateway", "tar")  # the program is the container's entry point there


def typed(line: str, url: str, cwd: Path | None = None) -> None:
    there = urlsplit(url)
    environment = {**os.environ, "PGHOST": str(there.hostname), "PGPORT": str(there.port)}
    done = subprocess.run(line, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stderr}"


async def test_what_was_backed_up_is_all_there_after_a_restore_and_goes_on(tmp_path: Path, database: str) -> None:
    sent = {"files": [("photos", ("a.jpg", photo(RED), "image/jpeg"))], "headers": {"Prefer": "wait=30"}}
    with valkey() as redis_url:
        async with gateway(tmp_path / "data", redis_url, Fakes(), database_url=database) as http:
            kept = (await http.post("/v1/claims", **sent)).json()  # type: ignore[arg-type]
            assert kept["status"] == "succeeded", kept
            typed(command("pg_dump"), database, tmp_path)
            typed(command("tar -C /data -cf").replace("/data", "data"), database, tmp_path)
            later = (await http.post("/v1/claims", **sent)).json()  # type: ignore[arg-type]
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "data").mkdir()

    typed(command("pg_restore"), database, tmp_path)  # over what is there
    typed("dropdb -U claimsight claimsight && createdb -U claimsight claimsight", database)
    typed(command("pg_restore"), database, tmp_path)  # and into an empty one
    typed(command("tar gateway -C /data -xf").replace("/data", "data"), database, tmp_path)
    with valkey() as redis_url:  # another, which knows nothing
        async with gateway(tmp_path / "data", redis_url, Fakes(), database_url=database) as http:
            assert (await http.get(f"/v1/claims/{kept['id']}")).json()["photos"] == kept["photos"]
            assert (await http.get(f"/v1/claims/{later['id']}")).status_code == 404
            overlay = await http.get(kept["photos"][0]["links"]["overlay"])
            assert overlay.status_code == 200 and overlay.content[8:12] == b"WEBP"
            again = (await http.post("/v1/claims", **sent)).json()  # type: ignore[arg-type]
            assert again["status"] == "succeeded"

"""`claimsight packs`: activate a version of a model, go back, or try one beside what answers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from claimsight import show
from claimsight.client import DEFAULT_URL, Claimsight
from claimsight.options import Key, Url
from claimsight.packs import Service

app = typer.Typer(help="Which version of each model answers claims, and what another would have said.")
console = Console()

Named = Annotated[Service, typer.Argument(help="segmenter or classifier")]
Version = Annotated[str, typer.Argument(help="name of a version folder beside the service's own")]


@app.command("list")
def listed(*, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """The versions that lie with each model service."""
    with Claimsight(url, key) as client:
        console.print(show.packs(client.packs.versions()))


@app.command()
def activate(service: Named, version: Version, *, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Let VERSION answer every claim that is begun from now on; waits while it is still loading."""
    with Claimsight(url, key) as client, Console(stderr=True).status(f"loading {version} ..."):
        now = client.packs.activate(service, version)
    console.print(f"{service}: {now.active} answers. Back to {now.previous}: claimsight packs rollback {service}")


@app.command()
def rollback(service: Named, *, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Activate what answered before."""
    with Claimsight(url, key) as client, Console(stderr=True).status("loading ..."):
        now = client.packs.roll_back(service)
    console.print(f"{service}: {now.active} answers")


@app.command()
def canary(
    service: Named,
    version: Annotated[str | None, typer.Argument(help="without one, the canary ends")] = None,
    *,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="of the claims, chosen by their ids")] = 0.1,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Let VERSION look at a share of the finished claims too. Its answers are kept beside them and change nothing."""
    with Claimsight(url, key) as client, Console(stderr=True).status("loading ..."):
        now = client.packs.canary(service, version, share) if version else client.packs.end_canary(service)
    tried = f"{now.candidate} sees {now.share:.1%} of the claims beside" if now.candidate else "no canary beside"
    console.print(f"{service}: {tried} {now.active}")


@app.command()
def compare(*, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """How alike the packs answered: findings of both, titles, routes, and the time that they took."""
    with Claimsight(url, key) as client:
        found = client.packs.comparisons()
    for line in found:
        console.print(show.comparison(line), soft_wrap=True)
    if not found:
        console.print("Nothing has been compared yet: claimsight packs canary --help")

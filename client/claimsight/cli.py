"""`claimsight`: the command line over the public API."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from claimsight import diagnosis, hostchecks, packs_cli, show
from claimsight import folder as folders
from claimsight.client import DEFAULT_URL, LONGEST_WAIT_S, Claimsight
from claimsight.diagnosis import Check
from claimsight.errors import ClaimsightError, Refused
from claimsight.models import Claim, Job
from claimsight.options import Key, Url

app = typer.Typer(
    help="Vehicle damage on claim photos: what, where, on which part, how sure, and whether a person should look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
app.add_typer(packs_cli.app, name="packs", no_args_is_help=True)

Photos = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="of one claim")]


@app.command()
def assess(
    *,
    photos: Photos,
    overlays: Annotated[
        Path | None, typer.Option(help="folder for the photos with their findings drawn on them")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="your own reference of the claim")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the claim as JSON")] = False,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the end")] = 600,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Send PHOTOS as one claim and show what is on them."""
    with Claimsight(url, key) as client:
        with Console(stderr=True).status("sending ...") as status:
            claim = client.submit(*photos, external_ref=reference, wait_s=min(LONGEST_WAIT_S, int(timeout)))

            def changed(now: Claim) -> None:
                status.update(f"{now.id} {now.status} {now.progress.done}/{now.progress.total}" if now.progress else "")

            claim = client.finished(claim, timeout_s=timeout, on_change=changed)
        if as_json:
            print(claim.model_dump_json(indent=2))
        else:
            console.print(show.claim(claim, [photo.name for photo in photos]))
        if overlays:
            _save_overlays(client, claim, photos, overlays)
    if claim.status != "succeeded":
        raise typer.Exit(1)


@app.command()
def batch(
    *,
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="photos, also in subfolders")],
    out: Annotated[Path, typer.Option(help="file for the results, one JSON object a line")],
    coco: Annotated[Path | None, typer.Option(help="file for the findings in COCO's format")] = None,
    per_folder: Annotated[bool, typer.Option("--claim-per-folder", help="a subfolder is a claim, not a photo")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Assess every photo of FOLDER in the background. Stopped and begun again, it goes on where it was."""
    planned = folders.plan(folder, claim_per_folder=per_folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Claimsight(url, key) as client, Progress(*columns, console=Console(stderr=True)) as bars:
        shown: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = bars.add_task(what, total=total)
            bars.update(shown[what], completed=done, total=total)

        ended = folders.run(client, planned, out, coco=coco, told=told)
    lines = ended.progress.total if ended.progress else 0
    console.print(f"{ended.id} {ended.status}: {lines - ended.failed} claims assessed, {ended.failed} failed -> {out}")
    if ended.failed or ended.status != "succeeded":
        raise typer.Exit(1)


@app.command()
def jobs(
    *,
    job: Annotated[
        str | None, typer.Argument(help="id of a claim or a batch; without one, the newest are listed")
    ] = None,
    status: Annotated[str | None, typer.Option(help="only claims with this status")] = None,
    limit: Annotated[int, typer.Option(min=1, help="claims listed")] = 20,
    cancel: Annotated[bool, typer.Option("--cancel", help="cancel the named one")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Show claims and batches: the newest, or the one named."""
    with Claimsight(url, key) as client:
        if job is None:
            found: list[Job] = [*client.batches.list()[:limit]] if status is None else []
            for claim, _ in zip(client.claims(status=status), range(limit), strict=False):
                found.append(claim)
            console.print(show.jobs(found) if found else "Nothing has been sent yet.")
        elif job.startswith("bat_"):
            console.print(show.jobs([client.batches.cancel(job) if cancel else client.batches.get(job)]))
        else:
            claim = client.cancel(job) if cancel else client.claim(job)
            console.print(show.claim(claim, []))


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print the checks as JSON")] = False,
    url: Annotated[str | None, typer.Option("--url", envvar="CLAIMSIGHT_URL", help="where a gateway should be")] = None,
    key: Key = None,
) -> None:
    """Check this machine, the gateway and everything behind it; status 1 where something is wrong, with what to do."""
    checks: list[Check] = []

    def told(found: Iterable[Check]) -> None:
        for check in found:
            checks.append(check)
            if not as_json:
                console.print(show.check(check), soft_wrap=True)

    told(hostchecks.examine())
    with Claimsight(url or DEFAULT_URL, key, patience_s=0) as client:
        told(diagnosis.examine(client, expected=url is not None))
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)


def _save_overlays(client: Claimsight, claim: Claim, photos: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for position, (photo, file) in enumerate(zip(claim.photos, photos, strict=False), start=1):
        picture = client.picture(photo)
        if picture:
            path = folder / f"{position:02d}-{file.stem}.webp"
            path.write_bytes(picture)
            Console(stderr=True).print(f"saved {path}", markup=False)


def main() -> None:
    """The entry point: what goes wrong is one red sentence and status 1, never a traceback."""
    try:
        app()
    except ClaimsightError as error:
        unknown = isinstance(error, Refused) and error.status == 401
        show.problem(f"{error} Here: --key, or CLAIMSIGHT_API_KEY." if unknown else str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

"""Claims and errors for people: tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from claimsight.diagnosis import Check
from claimsight.models import Claim, Comparison, Finding, Job, Latency, Packs, Photo

_COLOURS = {"succeeded": "green", "auto": "green", "review": "yellow", "failed": "red", "canceled": "dim"}
_STATES = {"ok": "green", "warn": "yellow", "fail": "red", "off": "dim"}


def claim(found: Claim, names: list[str]) -> RenderableType:
    """The claim in a few lines and a table of its findings; `names` are the photos' own, in their order."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("photo", "damage", "sure", "part", "size", "route", "why"):
        table.add_column(column, justify="right" if column == "sure" else "left", overflow="fold")
    for position, photo in enumerate(found.photos):
        for row in _rows(photo, names[position] if position < len(names) else photo.id):
            table.add_row(*row)
    lines: list[RenderableType] = [_headline(found)]
    if found.error:
        lines.append(Text(found.error.detail, style="red"))
    if found.summary:
        lines += [Text(f"  {reason.text}") for reason in found.summary.reasons]
    return Group(*lines, table)


def jobs(found: Iterable[Job]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)  # to be copied
    for column in ("status", "created", "reference", "route"):
        table.add_column(column, overflow="fold")
    for job in found:
        done = f" {job.progress.done}/{job.progress.total}" if job.progress and not job.final else ""
        route = job.summary.route if isinstance(job, Claim) and job.summary else ""
        created = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        reference = escape(job.external_ref or "")
        table.add_row(job.id, _coloured(job.status) + done, created, reference, _coloured(route))
    return table


def packs(found: Packs) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "version", "state", "role", ""):
        table.add_column(column, overflow="fold")
    for name, service in (("segmenter", found.segmenter), ("classifier", found.classifier)):
        if service.detail:
            table.add_row(name, "", "[red]lost[/]", "", escape(service.detail))
        roles = {
            service.active: "[green]answers[/]",
            service.candidate: f"[yellow]sees {service.share:.1%}[/]",
            service.previous: "answered before",
        }
        for version in service.versions:
            shown = escape(version.version)
            table.add_row(name, shown, escape(version.state), roles.get(version.version, ""), escape(version.detail))
    return table


def comparison(found: Comparison) -> Text:
    """Five lines, every number with its n."""
    n = found.photos
    lines = [
        f"  {_count(found.claims, 'claim')}, {_count(n, 'photo')}; {found.errors} more had no answer of the candidate",
        f"  findings  {found.findings_active} -> {found.findings_candidate}, {found.findings_both} in both:"
        f" agreement {_share(found.agreement)}, same title {_share(found.same_title)} of {found.findings_both}",
        f"  route     the same for {_share(found.same_route)} of {n}",
        f"  models    {_latency(found.active_ms)} -> {_latency(found.candidate_ms)} a photo (n = {n})",
    ]
    return Text.assemble((found.packs, "bold"), *(f"\n{line}" for line in lines))


def check(found: Check) -> Text:
    line = Text.assemble((f"{found.state.upper():4} ", _STATES[found.state]), (found.what, "bold"), ": ", found.found)
    if found.fix:
        line.append(f"\n     -> {found.fix}")
    return line


def problem(text: str) -> None:
    Console(stderr=True).print(Text(text, style="red"))


def _headline(found: Claim) -> Text:
    line = Text.assemble((found.id, "bold"), "  ", (found.status, _COLOURS.get(found.status, "")))
    if found.partial:
        line.append("  some photos failed", "yellow")
    if found.summary:
        line.append(f"  {_count(found.summary.findings, 'finding')}  -> ")
        line.append(found.summary.route, _COLOURS.get(found.summary.route, ""))
    return line


def _rows(photo: Photo, name: str) -> list[tuple[str, ...]]:
    shown = escape(name)
    if photo.error:
        return [(shown, "[red]failed[/]", "", "", "", "", escape(photo.error.detail))]
    if not photo.findings:
        nothing = "[dim]no damage found[/]" if photo.status == "succeeded" else f"[dim]{escape(photo.status)}[/]"
        return [(shown, nothing, "", "", "", "", escape("; ".join(reason.text for reason in photo.reasons)))]
    return [(shown if first == 0 else "", *_finding(each)) for first, each in enumerate(photo.findings)]


def _finding(found: Finding) -> tuple[str, ...]:
    part = "" if not found.part else f"{found.part.display}{f' ({found.part.side})' if found.part.side else ''}"
    why = "; ".join(reason.text for reason in found.reasons)
    sure = f"{found.title_confidence:.0%}"
    return escape(found.title), sure, escape(part), found.size, _coloured(found.route), escape(why)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _latency(found: Latency | None) -> str:
    return "-" if found is None else f"{found.p50:.0f} ms (95 % within {found.p95:.0f})"


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word)
    return f"[{colour}]{escape(word)}[/]" if colour else escape(word)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

"""Claims and errors for people: tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from claimsight.models import Claim, Finding, Job, Photo

_COLOURS = {"succeeded": "green", "auto": "green", "review": "yellow", "failed": "red", "canceled": "dim"}


def claim(found: Claim, names: list[str]) -> RenderableType:
    """The claim in a few lines and a table of its findings; `names` are the photos' own, in their order."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("photo", "damage", "sure", "part", "size", "where to", "why"):
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
    for column in ("id", "status", "created", "done", "reference", "where to"):
        table.add_column(column, overflow="fold")
    for job in found:
        done = f"{job.progress.done}/{job.progress.total}" if job.progress else ""
        route = job.summary.route if isinstance(job, Claim) and job.summary else ""
        created = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(job.id, _coloured(job.status), created, done, escape(job.external_ref or ""), _coloured(route))
    return table


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


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word)
    return f"[{colour}]{escape(word)}[/]" if colour else escape(word)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

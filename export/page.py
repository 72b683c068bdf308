"""One self-contained HTML page: headings, sentences, tables and figures in the order they are added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import isnan

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #d8dde3; text-align: right } td:first-child, th:first-child,
td.words { text-align: left } th { background: #f3f5f7 } figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
figcaption { color: #57606a } h2 { margin-top: 2.5rem }
"""


def number(value: float | None, digits: int = 3) -> str:
    """A number for a cell; a dash where there is none."""
    return "–" if value is None or isnan(value) else f"{value:.{digits}f}"


def interval(low: float, high: float, digits: int = 3) -> str:
    return f"{low:.{digits}f} to {high:.{digits}f}"


class Page:
    """Builds the page; everything given is text and gets escaped, figures excepted."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def say(self, text: str) -> None:
        self.parts.append(f"<p>{escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        cells = "".join(f"<th>{escape(h)}</th>" for h in head)
        body = "".join("<tr>" + "".join(f"<td{_words(c)}>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        self.parts.append(f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>")

    def figure(self, svg: str, caption: str) -> None:
        """`svg`: a drawing of `plots`."""
        self.parts.append(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>")

    def render(self) -> str:
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{_STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(self.parts)}</body></html>\n'


def _words(cell: str) -> str:
    return "" if cell[:1].isdigit() or cell[:1] in "-+–" else ' class="words"'

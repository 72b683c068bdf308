"""Presets: one flat YAML file per model and size, read into a frozen dataclass; a wrong key is an error."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

FOLDER = Path(__file__).with_name("presets")
T = TypeVar("T")


def load_preset(cls: type[T], name: str, **overrides: Any) -> T:
    """`name` is a file's path or one of `export/presets/<name>.yaml`; overrides that are None are left out.

    Raises FileNotFoundError (listing what there is) or ValueError (naming file and key).
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.exists():
        raise FileNotFoundError(f"no preset {name!r}; there are {sorted(p.stem for p in FOLDER.glob('*.yaml'))}")
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return build(cls, {**values, **{k: v for k, v in overrides.items() if v is not None}}, str(path))


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """A dataclass (dataclasses inside it too) from plain values, strictly."""
    assert dataclasses.is_dataclass(cls)
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {sorted(hints)}")
    made: dict[str, Any] = {}
    for key, value in values.items():
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            made[key] = build(kind, value, f"{where}: {key}")  # type: ignore[arg-type]
        elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            made[key] = float(value)
        elif isinstance(value, kind):
            made[key] = value
        else:
            raise ValueError(f"{where}: {key} must be {kind.__name__}, not {value!r}")
    return cls(**made)

"""What a folder with a diffusion model must be before it is loaded: known classes, safetensors only, a known hash.

No torch here: the gateway's tests and the exporters ask the same questions.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

BASE_KEY = "base_unet_sha256"  # in a LoRA file's metadata: which base it was trained on
PIPELINES = ("StableDiffusionXLPipeline", "StableDiffusionPipeline")
_LIBRARIES = ("diffusers", "transformers")


class BaseModelError(ValueError):
    """The folder is no base model that may be loaded. The message says what is wrong and what would be right."""


def check_base(folder: Path) -> str:
    """The pipeline's class name. Nothing in the folder is imported, executed or unpickled by loading it after this.

    Raises BaseModelError.
    """
    index = folder / "model_index.json"
    try:
        described = json.loads(index.read_text(encoding="utf-8"))
        kind = described["_class_name"]
        parts = {name: each for name, each in described.items() if not name.startswith("_") and isinstance(each, list)}
    except FileNotFoundError as error:
        raise BaseModelError(f"{folder} has no model_index.json: it is no diffusers model folder.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{index} cannot be read. Download the model again.") from error
    if kind not in PIPELINES:
        raise BaseModelError(f"{folder} holds a {kind}; supported are {' and '.join(PIPELINES)}.")
    for name, library in ((name, each[0]) for name, each in parts.items() if each and each[0] is not None):
        if library not in _LIBRARIES:
            raise BaseModelError(f"{folder}: {name} asks for code of {library!r}, which is never loaded.")
    if not unet_files(folder):
        raise BaseModelError(f"{folder}/unet has no safetensors file. Other formats can hold code and are not loaded.")
    return str(kind)


def unet_files(folder: Path) -> list[Path]:
    return sorted((folder / "unet").glob("*.safetensors"))


def base_sha256(folder: Path) -> str:
    """SHA-256 over the U-Net's weight files: what a LoRA belongs to, and what the audit names."""
    digest = hashlib.sha256()
    for path in unet_files(folder):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

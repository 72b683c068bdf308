"""What the images are made of: one room each, locked files only, nothing that serving does not need."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ROOMS = ("gateway", "segmenter", "classifier", "retrieval", "generator")
_spec = importlib.util.spec_from_file_location("lock", ROOT / "deploy" / "lock.py")
assert _spec is not None and _spec.loader is not None
lock = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lock)
_MODULES = {"pi-heif": "pi_heif", "python-multipart": "python_multipart", "huggingface-hub": "huggingface_hub"}


def _dockerfile(room: str) -> str:
    return (ROOT / "services" / room / "Dockerfile").read_text(encoding="utf-8")


def _locked(name: str) -> dict[str, list[tuple[Requirement, list[str]]]]:
    """Package -> its pinned versions, each with its hashes."""
    text = (lock.LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    for entry in re.sub(r"(?m)^\s*#.*$", "", text).replace("\\\n", " ").splitlines():
        if entry.strip():
            requirement = Requirement(entry.partition("--hash")[0].strip())
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
            found.setdefault(requirement.name.lower(), []).append((requirement, hashes))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_image_holds_one_room_runs_without_root_and_knows_its_health(room: str) -> None:
    text = _dockerfile(room)
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.M)
    assert "HEALTHCHECK" in final
    assert "/health/ready" in final
    assert "curl" not in text
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${BASE}"] * 2
    assert "--mount" not in final and "pip" not in final
    copied = set(re.findall(r"^COPY services/(\w+) ", text, re.M))
    assert copied == {"common", room}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"][room]["build"]["dockerfile"] == f"services/{room}/Dockerfile"


def test_every_image_starts_from_the_same_exact_version() -> None:
    bases = {re.findall(r"^ARG BASE=(\S+)$", _dockerfile(room), re.M)[0] for room in ROOMS}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", bases.pop())


def test_a_build_is_given_every_file_that_it_copies() -> None:
    given = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    for room in ROOMS:
        for line in re.findall(r"^COPY (?!--from)(.+)$", _dockerfile(room), re.M):
            for pattern in line.split()[:-1]:
                assert list(ROOT.glob(pattern)), pattern
                assert any(pattern == path or pattern.startswith(f"{path}/") for path in given), pattern


@pytest.mark.parametrize("name", lock.LOCKED)
def test_a_lock_pins_what_the_project_asks_for_by_hash_and_names_no_host(name: str) -> None:
    """Fails after a change of pyproject.toml: `make lock`."""
    locked = _locked(name)
    for text in lock.wanted(name):
        wanted = Requirement(text)
        pinned = [found for found, _ in locked[wanted.name.lower()]]
        for found in pinned:
            (exact,) = found.specifier
            assert exact.operator == "==" and wanted.specifier.contains(exact.version, prereleases=True), text
    for entries in locked.values():
        for found, hashes in entries:
            assert hashes, f"{found} without a hash"
    assert "://" not in (lock.LOCKS / f"{name}.txt").read_text(encoding="utf-8")


def test_a_gpu_image_has_one_build_of_onnx_runtime_only() -> None:
    for room in ("segmenter", "classifier"):
        assert "onnxruntime" in _locked(room) and "onnxruntime-gpu" not in _locked(room)
        assert "onnxruntime" not in _locked(f"{room}-gpu") and "nvidia-cudnn-cu13" in _locked(f"{room}-gpu")


def test_every_download_of_a_build_is_checked_by_hash() -> None:
    for room in ROOMS:
        assert re.search(r"dependencies\.sh (\$\{LOCK\}|" + room + r")\n", _dockerfile(room))
        assert "pip install" not in _dockerfile(room)
    for name in ("dependencies.sh", "source.sh"):
        script = (ROOT / "deploy" / "image" / name).read_text(encoding="utf-8")
        for line in re.findall(r"^.*install .*(?:--requirement|\.$).*$", script, re.M):
            assert "--require-hashes" in line or "--no-index" in line or "tensorrt.txt" in line, line


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "generator"])  # importing torch takes too long
def test_an_image_installs_everything_that_its_room_imports(room: str) -> None:
    """The room's modules are imported where what its image leaves out cannot be found."""
    names = {*lock.WITHOUT[room], *lock.UNREACHED.get(room, ())}
    left_out = [_MODULES.get(name, name.replace("-", "_")) for name in names]
    script = (
        "import pkgutil, sys\n"
        "class Without:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def __getattr__(self, name): return getattr(self.finder, name)\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        return None if name.split('.')[0] in {left_out} else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = map(Without, sys.meta_path)\n"
        f"import services.{room} as package\n"
        "for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    if '.migrations.' not in found.name: __import__(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]


def test_what_an_image_leaves_out_is_what_the_project_has() -> None:
    listed = {lock.name_of(requirement) for requirement in lock.project()["dependencies"]}
    for room, names in lock.WITHOUT.items():
        assert set(names) <= listed, room

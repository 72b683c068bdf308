"""Images built and started without a container engine: buildah with chroot isolation, which needs root only.

Where the kernel lets nobody lay folders over one another, set STORAGE_DRIVER=vfs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_WRITABLE = ("dev", "proc", "sys", "run", "tmp", "data", "etc/hosts", "etc/hostname", "etc/resolv.conf")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PATIENCE_S = 60.0


def needed(*programs: str) -> None:
    """End with what to do where a program is missing, or where we are not root."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not found. On Debian: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise SystemExit("Run this as root: a chroot is what the containers are made of here.")


def build(room: str, base: str | None) -> str:
    """Build one room's image from the working tree, and answer its name. `base` stands in for the Dockerfile's own."""
    command = ["buildah", "bud", "--layers", "--isolation", "chroot", "--format", "docker", "--tag", _name(room)]
    command += ["--build-arg", f"BASE={base}", "--pull-never"] if base else []
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as pip:
        bundle = os.environ.get("SSL_CERT_FILE")
        if bundle:  # where the way to the package index is inspected, its certificate is wanted inside as well
            pip.write(f"[global]\ncert = {_CERTIFICATES}\n")
            pip.flush()
            command += ["--volume", f"{bundle}:{_CERTIFICATES}:ro", "--volume", f"{pip.name}:/etc/pip.conf:ro"]
        subprocess.run([*command, "--file", f"services/{room}/Dockerfile", "."], cwd=ROOT, check=True)
    return _name(room)


def debian_base() -> str:
    """An image of Debian's own Python 3.11, made from its packages unless it was made before."""
    name = "localhost/claimsight-base"
    if (
        subprocess.run(["buildah", "inspect", "--type", "image", name], capture_output=True, check=False).returncode
        == 0
    ):
        return name
    subprocess.run(["sh", str(ROOT / "deploy/image/debian-base.sh"), name], check=True)
    return name


class Container:
    """A root filesystem made from an image."""

    def __init__(self, image: str) -> None:
        self._image: dict[str, Any] = json.loads(_ask("inspect", "--type", "image", image))["Docker"]["config"]
        self._id = _ask("from", "--pull-never", image)
        self.root = Path(_ask("mount", self._id))

    @property
    def user(self) -> str:
        return str(self._image.get("User", ""))

    @property
    def size_mb(self) -> float:
        """Of all files, each counted once."""
        found = {entry.st_ino: entry.st_size for entry in map(os.lstat, self._files())}
        return sum(found.values()) / 1e6

    def unwanted(self) -> list[str]:
        """What an image has no use for: installers, packages' tests, caches, bytecode outside /opt/pyc."""
        return [
            str(path.relative_to(self.root))
            for path in self._files()
            if path.relative_to(self.root).parts[:2] in (("opt", "venv"), ("app",), ("root", ".cache"))
            and (path.suffix == ".pyc" or {"pip", "tests", ".cache"} & set(path.parts))
        ]

    def state(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that a read-only container could not change."""
        kept = (path for path in self._files() if not str(path.relative_to(self.root)).startswith(_WRITABLE))
        return {str(path.relative_to(self.root)): (s.st_size, s.st_mtime_ns) for path in kept if (s := path.lstat())}

    @contextmanager
    def running(self, environment: dict[str, str], *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The image's own entry point, as its own user, on this machine's network; SIGTERM at the end."""
        command = ["buildah", "run", "--isolation", "chroot", "--user", self.user]
        command += [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        command += [self._id, "--", *self._image["Entrypoint"], *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(_PATIENCE_S)

    def remove(self) -> None:
        _ask("rm", self._id)

    def _files(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.root):
            yield from (Path(folder, name) for name in names)


def _name(room: str) -> str:
    return f"localhost/claimsight-{room}"


def _ask(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()

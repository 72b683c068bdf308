"""Makes the passwords of a deployment, once: run by the `init` service of docker-compose.yml before anything else.

Each folder is a volume of its own, so that a service sees only the secrets it needs. What exists is kept. Standard
library only; nothing is printed but names.
"""

from __future__ import annotations

import secrets
import string
import sys
from pathlib import Path

NAMES = string.ascii_letters + string.digits
FILES = {
    "redis": {"password": "{password}", "url": "redis://:{password}@redis:6379/0"},
    "database": {"password": "{password}", "url": "postgresql://claimsight:{password}@postgres:5432/claimsight"},
    "internal": {"password": "{password}"},  # what the gateway shows to the model services
    "grafana": {"password": "{password}"},
    "admin": {"password": "csk_{name}_{password}"},  # an API key for `docker compose exec gateway cat ...`
}


def make(root: Path) -> None:
    """Write the files of every folder under `root` that are missing."""
    for folder, files in ((root / name, files) for name, files in FILES.items()):
        kept = folder / "password"
        password = kept.read_text(encoding="ascii") if kept.exists() else secrets.token_urlsafe(32)
        for file, pattern in files.items():
            path = folder / file
            if path.exists():
                continue
            beside = folder / f".{file}.new"
            name = "".join(secrets.choice(NAMES) for _ in range(12))
            beside.write_text(pattern.format(password=password, name=name), encoding="ascii")
            beside.chmod(0o444)  # Redis and PostgreSQL run as users of their own; the volume keeps strangers out
            beside.replace(path)
            print(f"made {folder.name}/{file}")


if __name__ == "__main__":
    make(Path(sys.argv[1]))

"""One process per data folder: a lock that the kernel lets go of however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderUnusable(Exception):
    """The folder cannot be held. The message names it and says what to do."""


class FolderInUse(FolderUnusable):
    """Another living process holds the folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder` (made where it is missing) until the block is left; raises FolderUnusable, FolderInUse."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise FolderUnusable(
            f"Nothing can be written to {folder.absolute()}: {error.strerror}. Give it to the user that Claimsight "
            "runs as, or name another data folder."
        ) from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise FolderInUse(
                f"{folder.absolute()} is in use by another Claimsight process (pid {holder}). "
                "Stop that one, or name another data folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

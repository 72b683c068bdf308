"""One process per data folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.serving import folderlock
from services.common.serving.folderlock import FolderInUse, FolderUnusable


def test_a_held_folder_is_refused_with_its_holder(tmp_path: Path) -> None:
    with (
        folderlock.held(tmp_path / "data"),
        pytest.raises(FolderInUse, match=f"pid {os.getpid()}"),
        folderlock.held(tmp_path / "data"),
    ):
        pass
    with folderlock.held(tmp_path / "data"):
        pass


def test_a_killed_holder_does_not_block_the_folder(tmp_path: Path) -> None:
    hold_and_die = (
        "import os, signal, sys; from pathlib import Path; from services.common.serving import folderlock\n"
        "with folderlock.held(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", hold_and_die, str(tmp_path)], check=False)
    assert done.returncode == -9
    with folderlock.held(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # in whose place no folder can be made, whoever runs the tests
    with pytest.raises(FolderUnusable, match="name another data folder"), folderlock.held(tmp_path / "file" / "data"):
        pass

"""`python -m services.retrieval` serves; `python -m services.retrieval rebuild` makes the index anew from the rows."""

from __future__ import annotations

import sys

from services.common.serving import folderlock
from services.common.serving.folderlock import FolderUnusable
from services.common.serving.modelpack import PackError, load_pack
from services.common.serving.run import serve
from services.common.serving.telemetry import configure_logging
from services.retrieval.app import build_app
from services.retrieval.memory import Memory
from services.retrieval.settings import Settings


def main() -> None:
    arguments = sys.argv[1:]
    rebuilding = arguments[:1] == ["rebuild"]
    settings = Settings.from_command_line("python -m services.retrieval", arguments[rebuilding:])
    if rebuilding:
        rebuild(settings)
    else:
        serve(build_app(settings), settings)


def rebuild(settings: Settings) -> None:
    """Build the index from the rows, while the service is stopped."""
    configure_logging(settings.log_level, settings.log_format)
    try:
        with folderlock.held(settings.data):
            pack = load_pack(settings.pack)
            memory = Memory.open(pack, folder=settings.data, database_url=settings.rows_url, rebuild=True)
            print(f"The index holds {len(memory)} past cases.")
            memory.close()
    except (PackError, FolderUnusable) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

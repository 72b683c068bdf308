"""`python -m services.segmenter` serves; `... prepare` verifies the pack, builds engines and ends."""

import sys

from services.common.serving.prepare import prepare
from services.common.serving.run import serve
from services.segmenter.app import build_app
from services.segmenter.settings import Settings

if __name__ == "__main__":
    preparing = sys.argv[1:2] == ["prepare"]
    settings = Settings.from_command_line("python -m services.segmenter", sys.argv[1 + preparing :])
    (prepare if preparing else serve)(build_app(settings), settings)

"""`python -m services.classifier` serves; `... prepare` verifies the pack, builds engines and ends."""

import sys

from services.classifier.app import build_app
from services.classifier.settings import Settings
from services.common.serving.prepare import prepare
from services.common.serving.run import serve

if __name__ == "__main__":
    preparing = sys.argv[1:2] == ["prepare"]
    settings = Settings.from_command_line("python -m services.classifier", sys.argv[1 + preparing :])
    (prepare if preparing else serve)(build_app(settings), settings)

"""`python -m services.segmenter` runs the segmenter alone."""

from services.common.serving.run import serve
from services.segmenter.app import build_app
from services.segmenter.settings import Settings

if __name__ == "__main__":
    settings = Settings.from_command_line("python -m services.segmenter")
    serve(build_app(settings), settings)

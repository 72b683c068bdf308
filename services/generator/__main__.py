"""`python -m services.generator` runs the generator alone."""

from services.common.serving.run import serve
from services.generator.app import build_app
from services.generator.settings import Settings

if __name__ == "__main__":
    settings = Settings.from_command_line("python -m services.generator")
    serve(build_app(settings), settings)

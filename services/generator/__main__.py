"""`python -m services.generator` runs the generator alone."""

from services.common.serving.run import serve
from services.generator.app import build_app
from services.generator.settings import Settings

if __name__ == "__main__":
    settings = Settings(_cli_parse_args=True, _cli_prog_name="python -m services.generator")
    serve(build_app(settings), settings)

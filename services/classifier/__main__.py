"""`python -m services.classifier` runs the classifier alone."""

from services.classifier.app import build_app
from services.classifier.settings import Settings
from services.common.serving.run import serve

if __name__ == "__main__":
    settings = Settings.from_command_line("python -m services.classifier")
    serve(build_app(settings), settings)

import services  # noqa: F401 - first of all: it keeps ONNX Runtime from telling others what runs here

"""Claimsight's services."""

import os
from importlib.metadata import metadata

# Before ONNX Runtime is imported: since 1.29 its Linux wheels tell Microsoft what runs (microsoft/onnxruntime#27379).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_PACKAGE = metadata("claimsight")
VERSION, SUMMARY = _PACKAGE["Version"], _PACKAGE["Summary"]

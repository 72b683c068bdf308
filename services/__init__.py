"""Claimsight's services."""

from importlib.metadata import metadata

_PACKAGE = metadata("claimsight")
VERSION, SUMMARY = _PACKAGE["Version"], _PACKAGE["Summary"]

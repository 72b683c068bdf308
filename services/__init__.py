"""Claimsight's services."""

from importlib.metadata import version

VERSION = version("claimsight")

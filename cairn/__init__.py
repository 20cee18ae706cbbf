"""Cairn: which landmark does this photo show, or none? The library that stages, server and client share."""

__version__ = "0.1.0"

"""Asking a running server: a library and the `cairn` command. Needs no more than numpy and tritonclient."""

from cairn.client.client import Answer, Client, Neighbour, PhotoError, ServerUnavailable

__all__ = ["Answer", "Client", "Neighbour", "PhotoError", "ServerUnavailable"]

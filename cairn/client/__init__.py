"""Asking a running server: a library and the `cairn` command. Needs no more than numpy, tritonclient and tqdm."""

from cairn.client.aio import AsyncClient
from cairn.client.answers import Answer, Match, Neighbour, PhotoError, ServerUnavailable, Verified
from cairn.client.client import Client
from cairn.client.options import Options, Tls

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Match",
    "Neighbour",
    "Options",
    "PhotoError",
    "ServerUnavailable",
    "Tls",
    "Verified",
]

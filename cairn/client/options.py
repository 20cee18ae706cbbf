"""How a client connects and asks: what is rarely changed, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SERVER_VARIABLE = "CAIRN_SERVER"
DEFAULT_ADDRESS = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 30.0
LARGEST_BATCH = 64  # photos the server takes in a request
MAX_PHOTO_MB = 64.0  # the server refuses larger ones
IN_FLIGHT = 8  # requests: with eight photos each, the next batch fills while the server works on one
PHOTOS_A_REQUEST = 8  # a request of one costs a tenth of the answer (docs/benchmarks.md)


@dataclass(frozen=True)
class Tls:
    """An encrypted connection. Paths are of PEM files."""

    ca: Path | None = None  # who vouches for the server; none: those that gRPC trusts
    certificate: Path | None = None  # who we are, for a server that asks; with its key
    key: Path | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if a certificate comes without its key, or a key alone, FileNotFoundError for a path."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate and its key are given together or not at all")
        for path in (self.ca, self.certificate, self.key):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"{path}: no such file; TLS takes PEM files")


@dataclass(frozen=True)
class Options:
    """Options of a connection."""

    connect_timeout_s: float = 5.0  # for the connection alone
    attempts: int = 3  # at a request, as long as no server answers it and its time is not up
    first_wait_s: float = 0.2  # before the second attempt, doubled before each further one
    in_flight: int = IN_FLIGHT  # requests under way at once
    photos_a_request: int = PHOTOS_A_REQUEST  # at most; large photos go in fewer
    max_photo_mb: float = MAX_PHOTO_MB  # a larger photo is refused before it is sent
    tls: Tls | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option, if one is out of its range."""
        for name in ("connect_timeout_s", "first_wait_s", "max_photo_mb"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name)}: a number over 0 is needed")
        for name in ("attempts", "in_flight", "photos_a_request"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: a whole number of at least 1 is needed")
        if self.photos_a_request > LARGEST_BATCH:
            raise ValueError(f"photos_a_request = {self.photos_a_request}: the server takes at most {LARGEST_BATCH}")

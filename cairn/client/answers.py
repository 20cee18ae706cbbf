"""What a server's answers and errors are to a caller: plain, frozen, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ServerUnavailable(ConnectionError):
    """No server there, or one that does not answer; the message says the address and the way out."""


class PhotoError(ValueError):
    """A photo without an answer; the message is the reason."""

    def __init__(self, reason: str, request_id: str = "") -> None:
        """`request_id` is what the server's log calls the request; empty for a photo that was never sent."""
        super().__init__(reason)
        self.request_id = request_id


@dataclass(frozen=True)
class Neighbour:
    """A photo of the index that looks like the one asked about."""

    image_id: str  # 16 hexadecimal characters
    landmark_id: int
    landmark: str  # its name
    score: float  # cosine, or what a re-ranker that sorts neighbours made of it
    attribution: str  # author and licence, empty where nothing is known


@dataclass(frozen=True)
class Answer:
    """What a photo shows. Without a landmark, score and probability are those of the best one, which was too low."""

    landmark_id: int | None
    landmark: str | None
    score: float
    probability: float | None  # that the best landmark is right; none if the server has not learnt how sure to be
    neighbours: list[Neighbour]  # best first
    index_version: int  # of the index that answered


class Match(NamedTuple):
    """A point of the photo and the same point of a neighbour; x and y are shares of the width and height, 0 to 1."""

    neighbour: int  # its position in the answer's neighbours
    x: float
    y: float
    neighbour_x: float
    neighbour_y: float


@dataclass(frozen=True)
class Verified:
    """An answer, and how the nearest photos match the one asked about point by point."""

    answer: Answer
    inliers: list[int | None]  # matching points of each neighbour; none where it was not compared
    matches: list[Match]

"""What the page shows of one photo: the answer, its nearest photos, and where they match; gathered from the server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cairn.client import Answer, AsyncClient, Match, Neighbour, PhotoError, ServerUnavailable, Verified
from cairn.page.drawing import Preview, preview

SHOWN = 5  # nearest photos, and as many are compared


@dataclass(frozen=True)
class Near:
    """One of the nearest photos."""

    neighbour: Neighbour
    preview: Preview | None  # none where the server has no photos to show
    inliers: int | None  # none where the server could not compare
    matches: list[Match]


@dataclass(frozen=True)
class Found:
    """A photo and what the server says of it."""

    photo: Preview | None  # none where only the server can read it
    answer: Answer
    nearest: list[Near]  # best first
    note: str  # why photos are neither shown nor compared; empty where they are


async def found(client: AsyncClient, photo: bytes) -> Found:
    """Ask the server about a photo. Raises PhotoError if it refuses the photo, ServerUnavailable if it cannot be asked.

    A server that was not given the index's photos still answers; then there is a note.
    """
    await client.check()  # so that below, "unavailable" means that a server is there which cannot compare
    verified, note = await _verified(client, photo)
    answer = verified.answer
    shown = answer.neighbours[:SHOWN]
    mine, *theirs = await asyncio.gather(
        asyncio.to_thread(preview, photo), *(_of_index(client, near.image_id) for near in shown if not note)
    )
    nearest = [
        Near(near, picture, inliers, [match for match in verified.matches if match.neighbour == position])
        for position, (near, picture, inliers) in enumerate(
            zip(shown, theirs or [None] * len(shown), verified.inliers[: len(shown)], strict=True)
        )
    ]
    return Found(mine, answer, nearest, note)


async def _verified(client: AsyncClient, photo: bytes) -> tuple[Verified, str]:
    """The compared answer; where the server cannot compare, the bare one and why."""
    try:
        return await client.verify(photo, SHOWN), ""
    except ServerUnavailable as error:
        (answer,) = await client.query([photo])
        if isinstance(answer, PhotoError):
            raise answer from error
        return Verified(answer, [None] * len(answer.neighbours), []), str(error)


async def _of_index(client: AsyncClient, image_id: str) -> Preview | None:
    try:
        return await asyncio.to_thread(preview, await client.photo(image_id))
    except (PhotoError, ServerUnavailable):  # removed since the answer, or the server ended: the answer still stands
        return None

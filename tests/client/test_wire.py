"""What both clients share, without a server: how photos go into requests, and when one is sent again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from cairn.client import Options, PhotoError, wire
from cairn.client.wire import Line, landmark_questions

AWAY = InferenceServerException("Exceeds maximum queue size", status="StatusCode.UNAVAILABLE")


@given(st.lists(st.integers(0, 20)), st.integers(1, 64))
def test_every_photo_is_in_one_request_in_order(sizes: list[int], photos_a_request: int) -> None:
    """A photo of over 10 bytes is not sent."""
    photos = [bytes([i % 256]) * size for i, size in enumerate(sizes)]
    options = Options(photos_a_request=photos_a_request, max_photo_mb=10 / 1e6)
    questions = list(landmark_questions(photos, options))
    sent = [each.photos if not isinstance(each, PhotoError) else None for each in questions]
    flat = [photo for group in sent for photo in (group if group is not None else [None])]
    assert flat == [photo if len(photo) <= 10 else None for photo in photos]
    assert all(group is None or 1 <= len(group) <= photos_a_request for group in sent)
    ids = [each.request_id for each in questions if not isinstance(each, PhotoError)]
    assert len(set(ids)) == len(ids)


def test_a_request_is_no_larger_than_a_message_may_be() -> None:
    photo = bytes(3 * 10**6)
    questions = list(landmark_questions([photo] * 12, Options(photos_a_request=64)))
    assert [len(each.photos) for each in questions if not isinstance(each, PhotoError)] == [5, 5, 2]
    assert wire.REQUEST_MB * 1e6 + 64e6 < wire.GRPC_LIMIT


@given(st.floats(0.01, 10), st.integers(1, 8), st.floats(0, 100))
def test_waits_grow_and_end_with_the_attempts_and_the_time(first: float, attempts: int, left: float) -> None:
    line = Line("here:1", 30.0, Options(first_wait_s=first, attempts=attempts))
    for attempt in range(1, attempts + 3):
        wait = line.wait(AWAY, attempt, left)
        if wait is None:
            assert attempt >= attempts or first * 2 ** (attempt - 1) * 1.25 >= left
        else:
            assert attempt < attempts
            assert 0.75 <= wait / (first * 2 ** (attempt - 1)) <= 1.25
            assert wait < left


def test_only_a_server_that_is_away_is_asked_again() -> None:
    line = Line("here:1", 30.0, Options(attempts=5))
    for status in ("INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "CANCELLED", "UNKNOWN"):
        assert line.wait(InferenceServerException("x", status=f"StatusCode.{status}"), 1, 30.0) is None
    assert line.wait(AWAY, 1, 30.0) is not None

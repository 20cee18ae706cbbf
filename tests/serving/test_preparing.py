"""Photos prepared several at once, and the number of threads that do it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from serving.tiny_repository import PREPROCESSING, Tiny

from cairn.answering.preprocess import pixels
from cairn.files import FormError
from cairn.photos import DecodeError
from cairn.serving import preparing
from cairn.serving.preparing import Preparer
from cairn.serving.threads import VARIABLE, threads


def test_in_order_and_each_for_itself(tiny: Tiny) -> None:
    photos = [*tiny.known.values(), b"no photo", tiny.unknown]
    out = Preparer(tiny.repository / "preprocess" / "1")(photos)
    assert [isinstance(item, DecodeError) for item in out] == [False, False, False, True, False]
    for item, content in zip(out, photos, strict=True):
        if not isinstance(item, DecodeError):
            np.testing.assert_array_equal(item, pixels(content, PREPROCESSING))


def test_a_reason_does_not_hold_the_photo(tiny: Tiny) -> None:
    """A traceback would: a server that keeps errors for a while kept the photos too."""
    (out,) = Preparer(tiny.repository / "preprocess" / "1")([tiny.unknown[:-100]])
    assert isinstance(out, DecodeError)
    assert str(out).startswith("broken image: ")
    assert (out.__traceback__, out.__cause__, out.__context__) == (None, None, None)


def test_a_damaged_preprocessing_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text('{"size": 8}')
    with pytest.raises(FormError, match=r"preprocess.json: size: .* greater than or equal to 16; run `make repro`"):
        Preparer(tmp_path)


def test_too_many_bytes_are_not_decoded(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "MAX_PHOTO_MB", 0.001)
    (out,) = Preparer(tiny.repository / "preprocess" / "1")([tiny.unknown])
    assert str(out).endswith("MB, over the limit of 0.001 MB")


def test_threads_are_all_usable_cores_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert threads() == len(os.sched_getaffinity(0))
    monkeypatch.setenv(VARIABLE, "3")
    assert threads() == 3


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_threads_that_cannot_be(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=f"{VARIABLE} = '{value}': a whole number of at least 1"):
        threads()

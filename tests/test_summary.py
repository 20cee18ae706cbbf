"""The table that `make repro` ends with."""

from __future__ import annotations

from typing import Any

from cairn.summary import FIGURES, summary


def test_it_gives_figures_reasons_and_the_way_on() -> None:
    figures: dict[str, Any] = dict.fromkeys(FIGURES.values(), 0.25)
    figures["at_most"] = {"5": {"accuracy": 0.5}, "1": {"accuracy": 0.375}}
    evaluate = {**figures, "queries": 7, "distractors": 3, "baseline": {**figures, "gap": 0.125}}
    clean = {"kept": 90, "dropped": 10, "reasons": {"undecodable": 4, "exact duplicate": 6, "too small": 0}}
    text = "\n".join(summary({"images": 100}, clean, evaluate))
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["GAP"] == ["GAP", "0.2500", "0.1250"]
    assert lines["accuracy, 1 photo each"] == ["accuracy,", "1", "photo", "each", "0.3750", "0.3750"]
    assert "100 photos, 90 kept, 10 set aside" in text
    assert "undecodable" in text
    assert "too small" not in text
    for way in ("make serve", "cairn query", "make mlflow"):
        assert way in text

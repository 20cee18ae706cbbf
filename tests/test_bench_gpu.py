"""The benchmark on a GPU: its code runs on a CPU, its figures fit each other, and without a GPU it says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gpu_measured
import gpu_search
from gpu_measured import Book, Page, Settings, Window, paced, rate, timed

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU = torch.device("cpu")
# What a machine with a GPU may lack, though cairn has parts that need it.
LACKING = ("dvc", "mlflow", "great_expectations", "hydra", "pandas", "faiss", "onnx", "scipy", "matplotlib")
WITHOUT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({LACKING}))
sys.argv = sys.argv[1:]
sys.path.insert(0, {str(BENCHMARKS)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(
            gpu_measured, "time", SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now)
        )

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def command(*options: str) -> subprocess.CompletedProcess[str]:
    """The benchmark in a process that sees no GPU and has none of LACKING."""
    line = [sys.executable, "-c", WITHOUT, str(BENCHMARKS / "bench_gpu.py"), *options]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(line, capture_output=True, text=True, env=environment, check=False)


def test_a_window_counts_batches_and_waits_behind_the_warm_ones(clock: Clock) -> None:
    def loaded() -> Any:
        while True:
            clock.passes(3)
            yield "photos"

    window = Window()
    taken = 0
    for _ in timed(loaded(), warm=2, seconds=20, device=CPU, window=window):
        taken += 1
        clock.passes(1)
    assert window == Window(batches=5, seconds=20, waited=15)
    assert taken == 7
    assert window.rate(batch=8) == 2.0


def test_a_window_ends_with_its_batches(clock: Clock) -> None:
    window = Window()
    for _ in timed(iter("abcd"), warm=1, seconds=100, device=CPU, window=window):
        clock.passes(2)
    assert window == Window(batches=3, seconds=6, waited=0)


def test_rates_are_of_warm_steps(clock: Clock) -> None:
    slow = iter([50.0, 9.0, 9.0])
    assert rate(lambda: clock.passes(next(slow, 0.5)), count=8, seconds=3, device=CPU) == 16
    costs = iter([100.0, 2.0, 5.0])
    counts = []

    def work(count: int) -> None:
        counts.append(count)
        clock.passes(next(costs))

    assert paced(work, count=10, seconds=6) == 30 / 5
    assert counts == [10, 10, 30], "warm, a try, and as many as fit"


def test_figures_have_their_ratios_and_what_has_no_time_left_is_named(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Book(until=60)
    page = Page(book, "train", "resnet50")
    page.add("plain", 200, "images/s")
    page.add("ours", 500, "images/s", "plain", "never measured", goal=0.9)
    Page(book, "embed", "resnet50").add("ours", 1, "images/s", "plain")
    assert [figure.ratios for figure in book.figures] == [{}, {"plain": 2.5}, {}]
    clock.passes(50)
    assert page.time_for("short", 10)
    assert not page.time_for("long", 11)
    assert [left.what for left in book.left_out] == ["long"]
    said = capsys.readouterr().out
    assert "500.0 images/s   2.50 of plain (goal 0.9)" in said
    assert "left out: it may take 11 s, and 10 are left; raise --limit" in said


def test_without_a_gpu_it_says_so_and_names_the_way_out() -> None:
    done = command()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"no GPU: torch {torch.__version__}")
    assert "bench_gpu.py --device cpu --quick" in done.stderr


def test_all_but_the_search_runs_on_a_cpu_without_the_packages_of_other_stages(tmp_path: Path) -> None:
    done = command(
        *("--device", "cpu", "--quick", "--backbones", "test_resnet", "--cores", "1", "--seconds", "0.1"),
        *("--limit", "100", "--into", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["machine"]["device"] == "CPU"
    figures = {(row["section"], row["what"]): row for row in found["figures"]}
    assert {row["network"] for row in found["figures"]} == {"test_resnet"}
    values = {key: row["value"] for key, row in figures.items()}
    assert set(values) == {
        *(("train", what) for what in ("fp32, as timm has it", "bf16", "bf16, laid out", "bf16, laid out, compiled")),
        *(("train", f"Cairn's loop, {how}") for how in ("batches there", "batches there, any algorithm")),
        *(
            ("train", f"Cairn's {how}")
            for how in ("loop and loader", "loop, workers of params.yaml: 0", "loader alone")
        ),
        *(("train", what) for what in ("plain loop over files", "waiting for photos, of its time")),
        *(("embed", f"forward alone, by {how}") for how in ("32", "32, bf16", "8", "8, bf16")),
        *(("embed", f"cairn.embedding.embed, by {how}") for how in ("32", "32, bf16", "8", "8, bf16")),
        ("embed", "cairn.embedding.embed to the plain loop"),
        *(("embed", what) for what in ("a shard at a time, by 32", "plain loop, one photo at a time")),
        *(("embed", f"decoding by {how}") for how in ("1 thread", "2 threads", "1 processes")),
        *(("parity", f"{how} cosine, 32 to 16 bits") for how in ("least", "mean")),
        *(("parity", what) for what in ("mean cosine of two photos", "photos with the same nearest")),
    }
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for (section, what), row in figures.items():
        shown = f"{row['value']:,.1f}" if row["unit"].endswith("/s") else f"{row['value']:.4f}"
        assert any(line.startswith(f"test_resnet {what} {shown} {row['unit']}") for line in lines), what
        assert row["value"] > 0 or what.startswith("waiting")
        for other, ratio in row["ratios"].items():
            assert ratio == pytest.approx(row["value"] / values[section, other], rel=1e-3, abs=1e-5)
    ours = figures["train", "Cairn's loop and loader"]
    assert ours["goal"] == 0.9
    assert list(ours["ratios"]) == ["bf16, laid out", "Cairn's loop, batches there", "plain loop over files"]
    assert 0 <= values["train", "waiting for photos, of its time"] <= 1
    decoding = values["train", "Cairn's loader alone"] < values["train", "Cairn's loop, batches there"]
    (limit,) = [note["said"] for note in found["notes"] if note["section"] == "train"]
    assert limit.startswith(f"the limit is {'decoding, with all cores' if decoding else 'the network'}: ")
    assert 0.99 < values["parity", "least cosine, 32 to 16 bits"] <= values["parity", "mean cosine, 32 to 16 bits"]
    assert values["parity", "mean cosine of two photos"] < 0.95, "of photos that the network tells apart"
    assert {left["what"] for left in found["left_out"]} >= {"search", "copying a batch to the device"}


def test_search_is_measured_where_faiss_is(tmp_path: Path) -> None:
    settings = Settings(CPU, ("none",), 0.02, 1, 1, 1, 64, 1, vectors=2500, dimensions=32, queries=40, compiler="")
    book = Book(until=time.monotonic() + 600)
    gpu_search.speed(Page(book, "faiss"), settings, tmp_path)
    values = {figure.what: figure.value for figure in book.figures}
    (index,) = {what.split(",Refine")[0] for what in values if what.startswith("IVF")}
    assert index.startswith("IVF512,PQ")
    assert values["Flat on the CPU, recall@10"] == 1
    assert values[f"{index},Refine(SQfp16), recall@10"] > 0.9
    for figure in book.figures:
        for other, ratio in figure.ratios.items():
            assert ratio == figure.value / values[other]
    if gpu_search.faiss.get_num_gpus() == 0:
        assert [left.what for left in book.left_out] == ["Flat on the GPU"]

"""Two real processes, by torchrun and Gloo, train as one does; one that is killed changes nothing of the result."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import together_worker

from cairn.locations import Photos
from cairn.training.together import PartOfBatches

WORKER = Path(together_worker.__file__)
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def torchrun(
    folder: Path, *wanted: str, options: tuple[str, ...] = ("--standalone", "--nproc-per-node=2")
) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, str(WORKER), str(folder), *wanted]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ALONE, "PYTHONPATH": str(WORKER.parents[1]), **more}


def ran(command: list[str]) -> None:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Path:
    """What one process and what two have made, everything in one launch."""
    folder = tmp_path_factory.mktemp("together")
    together_worker.write_photos(folder, photos)
    wanted = [*together_worker.GRADIENTS, *together_worker.RUNS]
    together_worker.main(folder, wanted)
    ran(torchrun(folder, *wanted, "undisturbed"))
    return folder


def result(folder: Path, what: str, processes: int) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{what}_{processes}.pt", weights_only=True)
    return found


@pytest.mark.parametrize("loss", together_worker.GRADIENTS)
def test_loss_gradients_and_statistics_are_those_of_one_process(folder: Path, loss: str) -> None:
    one, two = result(folder, loss, 1), result(folder, loss, 2)
    assert two["loss"].item() == pytest.approx(one["loss"].item(), rel=1e-5)
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-3, atol=1e-5 * (1 + gradient.abs().max()))
    for name, buffer in one["buffers"].items():
        torch.testing.assert_close(two["buffers"][name], buffer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run", together_worker.RUNS)
def test_training_comes_to_the_same_loss(folder: Path, run: str) -> None:
    one, two = (result(folder, run, processes)["history"] for processes in (1, 2))
    assert two[0]["train_loss"] == pytest.approx(one[0]["train_loss"], rel=1e-3)
    for a, b in zip(one, two, strict=True):  # rounding grows from step to step
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=0.01)
        assert b["validation_accuracy"] == pytest.approx(a["validation_accuracy"], abs=0.1)


def same_bytes(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["history"] == two["history"]
    for part in ("embedder", "head"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])


def test_two_processes_repeat_to_the_same_bytes(folder: Path) -> None:
    same_bytes(result(folder, "parts", 2), result(folder, "undisturbed", 2))


def test_a_killed_process_has_all_start_again_from_the_last_checkpoint(folder: Path) -> None:
    ran(torchrun(folder, "killed", options=("--standalone", "--nproc-per-node=2", "--max-restarts=1")))
    same_bytes(result(folder, "killed", 2), result(folder, "undisturbed", 2))


def test_parts_are_equal_and_in_order_and_a_batch_that_has_none_is_an_error() -> None:
    batches = [np.arange(6), np.arange(10, 14)]
    assert list(PartOfBatches(batches, 2, 0)) == [[(0, 0), (1, 0), (2, 0)], [(10, 0), (11, 0)]]
    assert list(PartOfBatches(batches, 2, 1)) == [[(3, 0), (4, 0), (5, 0)], [(12, 0), (13, 0)]]
    again = [np.array([7, 8, 7, 7])]
    assert [list(PartOfBatches(again, 2, part)) for part in (0, 1)] == [[[(7, 0), (8, 0)]], [[(7, 1), (7, 2)]]]
    with pytest.raises(ValueError, match="a batch of 4 photos cannot be split evenly over 3 processes"):
        PartOfBatches(batches, 3, 0)


@contextmanager
def two_hosts() -> Iterator[list[list[str]]]:
    """Two network namespaces joined by a cable: for each the words before a command that is to run there.

    Skips where the machine does not allow it.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("two network namespaces need the command ip, and root")
    names = [f"cairn{os.getpid()}{side}" for side in "ab"]
    made = []
    try:
        for name in names:
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"ip netns add: {done.stderr.strip()}")
            made.append(name)
        ends = [name[-12:] for name in names]
        cable = ["ip", "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1]]
        done = subprocess.run([*cable, "netns", names[1]], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"ip link add: {done.stderr.strip()}")
        for number, (name, end) in enumerate(zip(names, ends, strict=True)):
            for words in (["addr", "add", f"10.77.0.{number + 1}/24", "dev", end], ["link", "set", end, "up"]):
                subprocess.run(["ip", "-n", name, *words], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield [
            ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={end}"]
            for name, end in zip(names, ends, strict=True)
        ]
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)


def test_two_machines_make_what_two_processes_of_one_make(folder: Path) -> None:
    own = folder.parent / "two_hosts"
    own.mkdir()
    shutil.copy(folder / "photos.json", own)
    with two_hosts() as hosts, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        running = []
        for number, before in enumerate(hosts):
            options = ("--nnodes=2", "--nproc-per-node=1", f"--node-rank={number}", "--master-addr=10.77.0.1")
            command = torchrun(own, "parts", options=(*options, f"--master-port={port}"))
            running.append(subprocess.Popen([*before, *command], env=environment(), stderr=subprocess.PIPE, text=True))
        for process in running:
            _, said = process.communicate(timeout=500)
            assert process.returncode == 0, said[-4000:]
    same_bytes(result(own, "parts", 2), result(folder, "parts", 2))

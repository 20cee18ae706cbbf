"""Several processes of one stage, as torchrun starts them: which one this is, and how they meet.

torchrun (`python -m torch.distributed.run`) gives each its number in RANK, their count in WORLD_SIZE and its number on
its machine in LOCAL_RANK. Without them a stage is one process, rank 0 of 1.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

RESTARTS = 3  # of all processes after one was killed, where a stage starts them itself
PATIENCE = timedelta(days=7)  # a process may wait so long for the slowest one


def rank() -> int:
    """The number of this process, from 0; the first one writes what there is only one of."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def started_by_torchrun() -> bool:
    """Whether this process is one of torchrun's, of which there may be just one."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch(script: str, arguments: list[str], processes: int) -> NoReturn:
    """Become torchrun, with a script in so many processes on this machine. A killed one has all start again."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={RESTARTS}", script, *arguments]
    # One thread each is what torchrun would set, with a warning; torch.set_num_threads gives the params' number.
    os.execve(sys.executable, command, {"OMP_NUM_THREADS": "1", **os.environ})


@contextmanager
def joined() -> Iterator[None]:
    """The processes know each other within: by NCCL where each has a GPU, by Gloo otherwise. One alone has no need."""
    if world() == 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    kept, _, _ = next(rendezvous("env://", timeout=PATIENCE))
    store = PrefixStore(_agreed(kept), kept)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank(), world_size=world(), timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _agreed(store: Store) -> str:
    """A name that all processes of this start know, and none of an earlier one.

    torchrun keeps one store over restarts, and addresses that killed processes left in it would be taken for new ones.
    So each process says hello with a name of its own; the first answers every hello, old ones in vain, until each of
    the others has shown that it knows the answer.
    """
    own = uuid.uuid4().hex
    if rank() > 0:
        store.set(f"hello/{rank()}", own)
        start = store.get(f"welcome/{own}").decode()
        store.set(f"here/{start}/{rank()}", "")
        return start
    missing = list(range(1, world()))
    while missing:
        for other in missing:
            if store.check([f"hello/{other}"]):
                store.set(f"welcome/{store.get(f'hello/{other}').decode()}", own)
        missing = [other for other in missing if not store.check([f"here/{own}/{other}"])]
        time.sleep(0.05)
    return own


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        from torch import distributed

        distributed.barrier()

"""A disk that fills up while a file is written is an error like any other, not the end of the process by SIGBUS."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole.kill import impossible, mounted, resized

CONTEXT = """
import sys
from pathlib import Path
import numpy as np
from cairn.retrieval.context import save_context
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams
vectors = np.ones((1000, 512), np.float32)
save_context(Path(sys.argv[1]) / "context", (SuperGlobalParams(),), Context(), np.arange(1000), vectors)
"""
LOOKS = """
import sys
from pathlib import Path
import numpy as np
import pyarrow as pa
from cairn.cleaning.looks import SEEN, looked_at
from cairn.files import write_table
keep = Path(sys.argv[1])
count = 4000
images = pa.table({"image_id": [f"{i:016x}" for i in range(count)], "shard": ["a.tar"] * count, "offset": range(count)})
columns = {"error": "", "pixels": bytes(32), "thumbnail": bytes(256)}
write_table(keep / "looks" / "000000.parquet", pa.table([[columns.get(f.name, 0)] * count for f in SEEN], schema=SEEN))
looked_at(keep, images, keep, None)
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    if "disk" in impossible():
        pytest.skip(impossible()["disk"])
    with mounted(tmp_path):
        yield tmp_path


@pytest.mark.parametrize("work", [CONTEXT, LOOKS], ids=["context", "looks"])
def test_without_room_it_is_an_error_and_with_room_it_is_written(small: Path, work: str) -> None:
    command = [sys.executable, "-c", work, str(small)]
    resized(small, 512 * 1024)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.returncode
    assert "No space left on device" in done.stderr
    resized(small, 16 * 2**20)
    shutil.rmtree(small / "context", ignore_errors=True)
    assert subprocess.run(command, check=False).returncode == 0

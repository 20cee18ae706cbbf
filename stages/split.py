"""split: divide the cleaned photos into train, validation, index and test sides.

Groups of near duplicates never cross sides; the ratios hold for each landmark. Makes build/split.parquet.
"""

from __future__ import annotations

import pyarrow.parquet as pq

from cairn.files import write_table
from cairn.manifest import read_images
from cairn.splitting import side_counts, split
from cairn.stage import CLEAN, SPLIT, Job, Report, run


def divide(job: Job) -> Report:
    images = read_images(CLEAN)
    table = split(images, pq.read_table(CLEAN / "pairs.parquet"), job.params.split, job.params.seed)
    write_table(SPLIT, table)
    return Report({"images": images.num_rows, **side_counts(images, table)}, datasets={"split": SPLIT})


if __name__ == "__main__":
    run("split", divide, __doc__)

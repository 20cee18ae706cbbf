"""split: divide the cleaned photos into train, validation, index and test sides.

Groups of near duplicates never cross sides; the ratios hold for each landmark. Photos whose label is doubted are then
taken off the train and index sides (split.suspects), never off validation and test. Makes build/split.parquet.
"""

from __future__ import annotations

import sys

import pyarrow.parquet as pq

from cairn.files import write_table
from cairn.manifest import read_images
from cairn.splitting import check_sides, side_counts, split
from cairn.stage import CLEAN, SPLIT, Job, Report, run


def divide(job: Job) -> Report:
    images = read_images(CLEAN).select(["image_id", "landmark_id"])
    suspects = pq.read_table(CLEAN / "suspects.parquet")
    table = split(images, pq.read_table(CLEAN / "pairs.parquet"), suspects, job.params.split, job.params.seed)
    counts = side_counts(images, suspects, table)
    for said in check_sides(counts):
        print(f"split: {said}", file=sys.stderr)
    write_table(SPLIT, table)
    return Report({"images": images.num_rows, **counts}, datasets={"split": SPLIT})


if __name__ == "__main__":
    run("split", divide, __doc__)

"""clean: set aside what cannot or should not be used, each photo with one reason, and store the rest.

Larger photos are resized once; smaller ones keep their bytes. Kept and dropped add up to what was fetched. Makes
build/clean/ (shards, images, landmarks, dropped and pairs tables) and a sheet of what was set aside.
"""

from __future__ import annotations

import pyarrow.parquet as pq

from cairn.cleaning.clean import clean
from cairn.files import written_aside
from cairn.manifest import read_images
from cairn.networks.scanning import duplicate_embedder, scene_voter
from cairn.pictures.set_aside import draw_set_aside
from cairn.stage import CLEAN, PICTURES, RAW, Job, Report, run, use_threads

SHEET = PICTURES / "clean" / "set_aside.png"


def tidy(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.clean
    with written_aside(CLEAN) as folder:
        cleaned = clean(
            RAW, folder, job.keep / "resized", params, duplicate_embedder(RAW, params), scene_voter(RAW, params)
        )
    dropped = pq.read_table(CLEAN / "dropped.parquet")
    draw_set_aside(RAW, read_images(RAW), dropped, params, SHEET)
    content = {
        "fetched": cleaned.kept + cleaned.dropped,
        "kept": cleaned.kept,
        "dropped": cleaned.dropped,
        "reasons": cleaned.reasons,
        "near_duplicate_pairs_kept": cleaned.pairs,
    }
    return Report(content, pictures=[SHEET], datasets={"clean": CLEAN / "images.parquet"})


if __name__ == "__main__":
    run("clean", tidy, __doc__)

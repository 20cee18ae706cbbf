"""clean: set aside what cannot or should not be used, each photo with one reason, and store the rest.

Larger photos are resized once; smaller ones keep their bytes. Kept and dropped add up to what was fetched. Photos whose
label is doubted (clean.label_noise) are kept and listed: split decides about them. What was decoded and resized is kept
when the stage is killed. Makes build/clean/ (shards, images, landmarks, dropped, pairs and suspects tables), a sheet of
what was set aside, and one of the suspects.
"""

from __future__ import annotations

import pyarrow.parquet as pq

from cairn.cleaning.clean import clean
from cairn.files import discard, written_aside
from cairn.manifest import read_images, read_landmarks
from cairn.networks.scanning import duplicate_embedder, scene_voter
from cairn.pictures.set_aside import draw_set_aside
from cairn.pictures.suspects import draw_suspects
from cairn.stage import CLEAN, PICTURES, RAW, Job, Report, run, use_threads

SHEET = PICTURES / "clean" / "set_aside.png"
DOUBTED = PICTURES / "clean" / "suspects.png"


def tidy(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.clean
    with written_aside(CLEAN) as folder:
        cleaned = clean(RAW, folder, job.keep, params, duplicate_embedder(RAW, params), scene_voter(RAW, params))
    dropped = pq.read_table(CLEAN / "dropped.parquet")
    images, suspects = read_images(RAW), pq.read_table(CLEAN / "suspects.parquet")
    draw_set_aside(RAW, images, dropped, params, SHEET)
    discard(DOUBTED)
    if suspects.num_rows:
        draw_suspects(RAW, images, read_landmarks(RAW), suspects, params, DOUBTED)
    content = {
        "fetched": cleaned.kept + cleaned.dropped,
        "kept": cleaned.kept,
        "dropped": cleaned.dropped,
        "reasons": cleaned.reasons,
        "near_duplicate_pairs_kept": cleaned.pairs,
        "suspects": cleaned.suspects,
    }
    pictures = [SHEET, *([DOUBTED] if suspects.num_rows else [])]
    return Report(content, pictures=pictures, datasets={"clean": CLEAN / "images.parquet"})


if __name__ == "__main__":
    run("clean", tidy, __doc__)

"""fetch: bring photos and labels from a source into tar shards and one manifest.

The source is fetch.source: synthetic (the embedded default), folder (your own photos) or gldv2 (Google Landmarks v2).
Makes build/raw/ with the shards, images.parquet and landmarks.parquet.
"""

from __future__ import annotations

from cairn.files import written_aside
from cairn.manifest import write_images, write_landmarks
from cairn.sources import SOURCES
from cairn.stage import RAW, Job, Report, run


def fetch(job: Job) -> Report:
    source = SOURCES[job.params.fetch.source](job.params)
    with written_aside(RAW) as raw:
        raw.mkdir(parents=True)
        fetched = source.fetch(raw, job.keep)
        write_images(raw, fetched.images)
        write_landmarks(raw, fetched.landmarks)
    distractors = fetched.images["landmark_id"].null_count
    return Report(
        {
            "source": job.params.fetch.source,
            "images": fetched.images.num_rows,
            "distractors": distractors,
            "landmarks": fetched.landmarks.num_rows,
            "facts": fetched.facts,
        },
        datasets={"raw": RAW / "images.parquet"},
    )


if __name__ == "__main__":
    run("fetch", fetch, __doc__)

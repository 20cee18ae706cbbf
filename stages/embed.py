"""embed: one unit vector for every cleaned photo, float16, one file a shard.

Test and validation queries are embedded from their raw bytes, as a served photo would be; the others from the cleaned
shards. With embed.baseline the untrained network embeds them too. Finished shards are kept when the stage is killed.
With processes over 1, or started by torchrun, each process embeds shards of its own. Makes build/embeddings/.
"""

from __future__ import annotations

from pathlib import Path

from cairn.embedding import embed_shards
from cairn.files import link, written_aside
from cairn.networks.embedder import Embedder, load_embedder
from cairn.processes import rank
from cairn.sides import embedding_locations, read_sides
from cairn.stage import EMBEDDINGS, MODEL, TRAINED, UNTRAINED, Job, Report, run, use_threads
from cairn.training.untrained import untrained


def embed(job: Job) -> Report | None:
    use_threads(job.params)
    sides = read_sides()
    places, shards = embedding_locations(sides), sides.images["shard"].to_pylist()

    def made(name: str, network: Embedder) -> list[Path]:
        return embed_shards(network, places, shards, job.params.embed, job.keep / name, name)

    network = load_embedder(MODEL)
    files = made(TRAINED.name, network)
    if job.params.embed.baseline:
        files += made(UNTRAINED.name, untrained(job.params))
    if rank() > 0:
        return None
    with written_aside(EMBEDDINGS) as folder:
        for file in files:
            link(file, folder / file.parent.name / file.name)
    return Report({"images": len(places), "dimensions": network.config.dimensions, "files": len(files)})


if __name__ == "__main__":
    run("embed", embed, __doc__, several=True)

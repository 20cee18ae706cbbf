"""The usual way to serve a network, for bench_serve.py to compare with: FastAPI, eager torch, a photo at a time.

    python benchmarks/fastapi_service.py --port 8080 [--calls 2] [--threads-a-call 1]
    curl -F photo=@PHOTO http://127.0.0.1:8080/landmark

One process of uvicorn. A photo is uploaded as a form's file, decoded by Pillow, embedded by the trained network in
eager mode, looked up and answered as the server does, and comes back as JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, UploadFile

from cairn.answering.preprocess import prepare
from cairn.manifest import NONE
from cairn.networks.embedder import embed_batch, load_embedder
from cairn.photos import DecodeError
from cairn.serving.command import LOOPBACK
from cairn.serving.retrieving import Retriever
from cairn.serving.runtime import newest_version

Answer = dict[str, Any]


def answerer(model: Path, repository: Path) -> Callable[[bytes], Answer]:
    """A photo's bytes to what is answered. Raises FileNotFoundError where a file of the run is missing."""
    network = load_embedder(model)
    version = newest_version(repository / "retrieve")
    retrieve = Retriever(repository / "retrieve" / str(version), version)

    def answer(photo: bytes) -> Answer:
        image = torch.from_numpy(prepare(photo, network.config.preprocessing))[None]
        rows = {name: rows[0].tolist() for name, rows in retrieve(embed_batch(network, image).numpy()).items()}
        found = zip(rows["neighbours"], rows["neighbour_landmark_ids"], rows["neighbour_scores"], strict=True)
        return {
            "landmark_id": None if rows["landmark_id"][0] == NONE else rows["landmark_id"][0],
            "landmark": rows["landmark"][0].decode(),
            "score": rows["score"][0],
            "neighbours": [{"image_id": i.decode(), "landmark_id": l_id, "score": s} for i, l_id, s in found if i],
        }

    return answer


def make_app(answer: Callable[[bytes], Answer], calls: int) -> FastAPI:
    """The service; `calls` requests are worked on at once, the others wait."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = calls
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> str:
        return "ready"

    @app.post("/landmark")
    def landmark(photo: UploadFile) -> Answer:
        try:
            return answer(photo.file.read())
        except DecodeError as error:
            raise HTTPException(400, str(error)) from error

    return app


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", type=Path, default=Path("build/model"), help="the trained network")
    parser.add_argument("--repository", type=Path, default=Path("triton_repo"), help="holds the index")
    parser.add_argument("--calls", type=int, default=1, help="requests worked on at once")
    parser.add_argument("--threads-a-call", type=int, default=2, help="of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads_a_call)
    app = make_app(answerer(args.model, args.repository), args.calls)
    uvicorn.run(app, host=LOOPBACK, port=args.port, log_level="warning")


if __name__ == "__main__":
    main()

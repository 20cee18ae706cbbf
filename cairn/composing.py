"""params.yaml, composed from conf/ the way `dvc exp run` does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def compose(root: Path, target: Path, overrides: Sequence[str] = ()) -> None:
    """Write `target` from root/conf/config.yaml and Hydra overrides such as experiment=baseline."""
    from dvc.utils.hydra import compose_and_dump

    compose_and_dump(target, str(root / "conf"), None, "config", str(root), list(overrides))


if __name__ == "__main__":
    compose(Path.cwd(), Path.cwd() / "params.yaml")

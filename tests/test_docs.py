"""What the documents name is there: make targets, params, subcommands, stages' files, links.

The commands that make and serve results are run for real in tests/pipeline and tests/serving.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from cairn.client.main import COMMANDS, main
from cairn.composing import compose
from cairn.manifest import image_id_of
from cairn.params import load_params
from cairn.sources.synthetic import design
from cairn.sources.synthetic.names import slug
from cairn.sources.synthetic.plan import plan

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def code(page: Path) -> str:
    """Everything in a page that is set as code, continued lines joined."""
    text = page.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", rest)]).replace("\\\n", " ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_subcommands_exist(page: Path) -> None:
    assert set(re.findall(r"^\s*make ([a-z-]+)", code(page), re.MULTILINE)) <= TARGETS
    assert set(re.findall(r"(?:^|&& )cairn ([a-z]+)", code(page), re.MULTILINE)) <= set(COMMANDS)


EXPERIMENTS = sorted({found for page in PAGES for found in re.findall(r"^\s*(dvc exp run .*-S .*)", code(page), re.M)})


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_params_that_are_set_compose(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_WEIGHTS", "/weights")
    words = shlex.split(command)
    compose(ROOT, tmp_path / "params.yaml", [value for name, value in pairwise(words) if name == "-S"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_scripts_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in link]
    scripts = re.findall(r"python ((?:benchmarks|stages|docs)/\S+\.py)", code(page))
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [script for script in scripts if not (ROOT / script).exists()]
    assert not missing


TABLES = re.findall(
    r"^cairn leaderboard (.*)--into docs/results.md --table (\w+)$", code(ROOT / "docs/results.md"), re.MULTILINE
)


def test_the_results_have_four_tables_of_experiments() -> None:
    assert [name for _, name in TABLES] == ["published", "unseen", "ablation", "penalty"]


@pytest.mark.parametrize(("options", "name"), TABLES, ids=[name for _, name in TABLES])
def test_a_table_of_experiments_is_what_the_records_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: str, name: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    page, records = ROOT / "docs/results.md", tmp_path / "results.csv"
    shutil.copy(ROOT / "docs/results.csv", records)
    assert main(["leaderboard", *options.replace("docs/results.csv", str(records)).split()]) == 0
    assert f"<!-- {name} -->\n\n{capsys.readouterr().out}\n<!-- /{name} -->" in page.read_text()


def test_the_photo_that_the_readme_asks_about_is_one_of_the_embedded_data() -> None:
    params = load_params(ROOT / "params.yaml")
    shown = plan(params.fetch.synthetic, params.seed)
    names = [landmark.name for landmark in design(params.fetch.synthetic.landmarks, params.seed)]
    readme = (ROOT / "README.md").read_text()
    (image_id,) = set(re.findall(r"\b[0-9a-f]{16}\b", readme))
    (answer,) = re.findall(r"says `(.+) \(\d+\), score", readme)
    files = [f"{slug(answer)}/{shot.number:06d}.jpg" for shot in shown if shot.shows == names.index(answer)]
    assert image_id in map(image_id_of, files)


def test_make_help_lists_what_the_readme_names() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "repro", "test", "serve", "bench", "help"):
        assert re.search(rf"^{target}\b", said, re.MULTILINE)

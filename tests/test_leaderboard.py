"""The table of experiments, from a real MLflow database of runs that were logged as stages log them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from cairn.client.main import main
from cairn.leaderboard import LeaderboardError, Logged, check_alike, marks, records_of, row_and_seed, rows_of
from cairn.records import SeedRecord, merged, read_records, write_records
from cairn.stage import shared
from cairn.tracking import stage_run
from cairn.yamls import read_yaml

PARAMS = Path(__file__).parents[1] / "params.yaml"
FIRST = "experiment,seed,commit,source,backbone,minutes"
OPENING, CLOSING = marks("leaderboard")

FEW_TITLE = "accuracy with at most 5 index photos a landmark"
TABLE = """\
| experiment | GAP | accuracy | coverage at 95 % precision | training minutes | seeds |
| --- | --- | --- | --- | --- | --- |
| arcface | .949 ± .003 | .957 ± .004 | .952 ± .010 | 8.5 ± 0.7 (2) | 3 |
| restored | .900 | 1.000 | .000 | 5.0 | 1 |
| vit-s14 | .880 | .900 | .500 | – | 1 |
| workspace | .500 | .600 | .100 | – | 1 |"""


def log_run(
    stage: str,
    lineage: str,
    seed: int,
    figures: dict[str, float],
    minutes: float,
    restored: bool,
    resumed: bool = False,
) -> None:
    """Log a run; MLflow is then told that it took `minutes`."""
    with stage_run(stage, {"seed": seed}, lineage, restored, resumed) as log:
        log(figures)
    client = mlflow.MlflowClient()
    run = client.get_run(mlflow.last_active_run().info.run_id)
    client.set_terminated(run.info.run_id, end_time=run.info.start_time + round(minutes * 60_000))


def train(lineage: str, minutes: float, seed: int = 1, restored: bool = False, resumed: bool = False) -> None:
    log_run("train", lineage, seed, {"best.validation_gap": 0.5}, minutes, restored, resumed)


def evaluate(gap: float, accuracy: float, coverage: float, seed: int = 1, restored: bool = False) -> None:
    figures = {"gap": gap, "accuracy": accuracy, "coverage_at_precision_95": coverage, "baseline.gap": 0.1}
    figures |= {"validation.gap": 0.5, "validation.at_most.5.accuracy": 0.25}
    log_run("evaluate", "an evaluation", seed, figures, 0.1, restored)


def fail(stage: str, figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="broken"), stage_run(stage, {"seed": 1}, "never") as log:
        log(figures)
        raise ValueError("broken")


def log_experiments(environment: pytest.MonkeyPatch) -> None:
    """Three seeds, the second run again, the third killed and gone on with; a restored network; a name that ends as if
    in a seed; the workspace.
    """
    environment.setenv("DVC_EXP_NAME", "arcface-s1")
    train("first", minutes=8)
    evaluate(0.946, 0.953, 0.942)
    train("anew", minutes=70)  # of a new run, which came to no end
    fail("evaluate", {"gap": 0.99, "accuracy": 0.99, "coverage_at_precision_95": 0.99})
    environment.setenv("DVC_EXP_NAME", "arcface-s2")
    train("second", minutes=100, seed=2)
    evaluate(0.1, 0.2, 0.3, seed=2)
    train("second", minutes=9, seed=2)
    evaluate(0.949, 0.957, 0.952, seed=2)
    environment.setenv("DVC_EXP_NAME", "arcface-s3")
    train("third", minutes=3, seed=3, resumed=True)
    evaluate(0.952, 0.961, 0.962, seed=3)
    environment.setenv("DVC_EXP_NAME", "lent")
    train("shared", minutes=5)
    train("shared", minutes=50)
    environment.setenv("DVC_EXP_NAME", "restored")
    train("shared", minutes=0.01, restored=True)
    evaluate(0.9, 1.0, 0.0, restored=True)
    environment.setenv("DVC_EXP_NAME", "vit-s14")
    evaluate(0.88, 0.9, 0.5)
    environment.delenv("DVC_EXP_NAME")
    train("elsewhere", minutes=0.01, restored=True)
    evaluate(0.5, 0.6, 0.1, restored=True)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database to copy, since MLflow takes seconds to make one."""
    file = tmp_path_factory.mktemp("logged") / "mlflow.db"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        environment.setenv("CAIRN_MLFLOW_EXPERIMENT", "cairn")
        log_experiments(environment)
        yield file


@pytest.fixture
def database(logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mlflow.db"
    shutil.copy(logged, file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    monkeypatch.setenv("CAIRN_MLFLOW_EXPERIMENT", "cairn")
    return file


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["leaderboard", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_the_table(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard"]) == 0
    assert capsys.readouterr().out == TABLE + "\n"


def test_json_sorted_by_another_figure(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--json", "--sort", "accuracy"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["experiment"] for row in rows] == ["restored", "arcface", "vit-s14", "workspace"]
    arcface = rows[1]
    assert list(arcface)[:4] == ["experiment", "gap", "accuracy", "coverage"]
    assert list(arcface)[-2:] == ["minutes", "seeds"]
    assert arcface["few_1"] is None
    assert arcface["gap"] == {"mean": pytest.approx(0.949), "spread": pytest.approx(0.003), "seeds": 3}
    assert arcface["minutes"] == {"mean": pytest.approx(8.5), "spread": pytest.approx(0.5**0.5), "seeds": 2}
    assert arcface["seeds"] == 3
    assert rows[0]["gap"] == {"mean": 0.9, "spread": None, "seeds": 1}
    assert rows[3]["minutes"] is None


def test_some_rows_of_the_other_side(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--side", "validation", "--rows", "arc*", "vit-s14"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == f"| experiment | GAP | {FEW_TITLE} | training minutes | seeds |"
    assert table[2:] == [
        "| arcface | .500 ± .000 | .250 ± .000 | 8.5 ± 0.7 (2) | 3 |",
        "| vit-s14 | .500 | .250 | – | 1 |",
    ]


def test_the_table_is_put_between_the_markers(database: Path, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"# Before\n\n{OPENING}\nold\n{CLOSING}\n\nafter\n")
    for _ in range(2):
        assert main(["leaderboard", "--into", str(page)]) == 0
        assert page.read_text() == f"# Before\n\n{OPENING}\n\n{TABLE}\n\n{CLOSING}\n\nafter\n"
    page.write_text("<!-- seeds --><!-- /seeds -->")
    assert main(["leaderboard", "--into", str(page), "--table", "seeds"]) == 0
    assert page.read_text() == f"<!-- seeds -->\n\n{TABLE}\n\n<!-- /seeds -->"


@pytest.mark.parametrize("text", ["", OPENING, f"{CLOSING}\n{OPENING}", f"{OPENING}{CLOSING}{OPENING}{CLOSING}"])
def test_a_page_without_its_markers_stays_as_it_is(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    page = tmp_path / "results.md"
    page.write_text(text)
    error = error_of(capsys, "--into", str(page))
    assert all(named in error for named in (str(page), OPENING, CLOSING))
    assert page.read_text() == text


def test_a_page_that_is_not_there(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path / "none.md") in error_of(capsys, "--into", str(tmp_path / "none.md"))


def test_no_database_is_an_error_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    error = error_of(capsys)
    assert f"{tmp_path}/none.db: no such MLflow database" in error
    assert not list(tmp_path.iterdir())


def test_no_experiment_and_no_runs_are_errors(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no experiment 'other'; there are Default, cairn" in error_of(capsys, "--experiment", "other")
    assert "no finished evaluate run in the experiment 'Default'" in error_of(capsys, "--experiment", "Default")


def test_help_says_what_belongs_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["leaderboard", "--help"])
    assert "<preset>-s<seed>" in capsys.readouterr().out


def evaluated(experiment: str, seed: str | None, started: int = 0, gap: float = 0.5) -> Logged:
    return Logged(experiment, "evaluate", "", False, False, seed, "", "", "", started, 0.1, {"gap": gap})


@pytest.mark.parametrize(
    ("name", "seed", "expected"),
    [
        ("arcface-s12", "12", ("arcface", "12")),
        ("arcface-s12", None, ("arcface", "12")),
        ("arcface-s2", "1", ("arcface-s2", "1")),
        ("arcface", "3", ("arcface", "3")),
        ("-s1", "1", ("-s1", "1")),
    ],
)
def test_a_name_ends_in_the_seed_that_was_used(name: str, seed: str | None, expected: tuple[str, str | None]) -> None:
    assert row_and_seed(evaluated(name, seed)) == expected


def test_a_seed_that_two_experiments_share_counts_once() -> None:
    runs = [
        evaluated("arcface-s1", "1", 1, 0.25),
        evaluated("arcface-s2", "2", 2, 0.5),
        evaluated("arcface", "1", 3, 0.75),
    ]
    (row,) = rows_of(records_of(runs))
    assert (row.experiment, row.seeds, row.figures["gap"].mean) == ("arcface", 2, 0.625)


def test_records_outlive_the_database(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.csv"
    older = SeedRecord("arcface", "1", "abc1234", "folder", "vit", 70.0, {"gap": 0.1})
    elsewhere = SeedRecord("arcface", "4", "abc1234", "folder", "vit", None, {"gap": 0.949, "validation.gap": 0.25})
    write_records(file, [older, elsewhere])
    assert main(["leaderboard", "--records", str(file), "--rows", "arcface"]) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[2:] == [
        "| arcface | .949 ± .002 | .957 ± .004 (3) | .952 ± .010 (3) | 8.5 ± 0.7 (2) | 4 |"
    ]
    kept = {(record.experiment, record.seed): record for record in read_records(file)}
    assert list(kept) == [("arcface", "1"), ("arcface", "2"), ("arcface", "3"), ("arcface", "4")]
    assert kept["arcface", "1"].metrics["gap"] == 0.946  # MLflow's is the newer one
    assert kept["arcface", "1"].commit != "abc1234"
    assert kept["arcface", "4"] == elsewhere
    before = file.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    assert main(["leaderboard", "--records", str(file)]) == 0
    assert capsys.readouterr().out == table
    assert file.read_bytes() == before


def test_a_row_is_of_one_source_and_one_backbone(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.csv"
    write_records(file, [SeedRecord("arcface", "4", "abc1234", "folder", "vit", None, {"gap": 0.9})])
    before = file.read_bytes()
    known = SeedRecord("arcface", "5", "abc1234", "synthetic", "vit", None, {"gap": 0.2})
    check_alike([*read_records(file), replace(known, experiment="vgg16"), replace(known, source="", backbone="")])
    with pytest.raises(LeaderboardError, match="arcface: seed 4 is of vit on photos of the source folder, seed 5 of"):
        check_alike([*read_records(file), known])
    monkeypatch.setenv("DVC_EXP_NAME", "arcface-s4")
    with stage_run("evaluate", {**shared(read_yaml(PARAMS)), "seed": 4}, "small") as log:
        log({"gap": 0.2})
    error = error_of(capsys, "--records", str(file), "--rows", "arcface")
    assert "seed 4 is of vit on photos of the source folder, seed 4 of test_resnet on synthetic" in error
    assert file.read_bytes() == before


def test_the_newer_record_of_a_seed_counts() -> None:
    first, second = (SeedRecord("a", "1", "", "", "", None, {"gap": gap}) for gap in (0.25, 0.5))
    other = SeedRecord("a", "0", "", "", "", None, {})
    assert merged([first], [second, other]) == [other, second]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with ''"),
        ("experiment,gap\n", "begins with 'experiment,gap'"),
        (f"{FIRST},gap\na,1,abc,folder,vit,2\n", "line 2: 6 cells, where the first line has 7"),
        (f"{FIRST},gap\na,1,abc,folder,vit,2,.5\na,2,abc,folder,vit,2,x\n", "line 3, gap: 'x' is no number"),
        (f"{FIRST},gap\na,1,abc,folder,vit,nan,.5\n", "line 2, minutes: 'nan' is no number"),
    ],
)
def test_a_file_that_is_no_file_of_records(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "results.csv"
    file.write_text(text)
    error = error_of(capsys, "--records", str(file))
    assert str(file) in error
    assert said in error
    assert file.read_text() == text


def test_mlflow_is_imported_late() -> None:
    code = "import sys, cairn.leaderboard; sys.exit(bool({'mlflow', 'pandas', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

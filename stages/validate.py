"""validate: check manifest, labels and shards with great-expectations before any work is put into them.

A breach stops the pipeline with a table of what, where, how many, and three examples. Data Docs for people are written
to build/data_docs/; they carry times and are no out.
"""

from __future__ import annotations

from dataclasses import asdict

from cairn.checks.check import check
from cairn.checks.result import breach_table
from cairn.stage import BUILD, RAW, Job, Report, StageError, run

DOCS = BUILD / "data_docs"


def validate(job: Job) -> Report:
    params = job.params
    result = check(RAW, params.validate_, DOCS, params.seed, params.clean.max_megapixels)
    if not result.passed:
        raise StageError(f"the raw data breaks what params.yaml asks of it:\n{breach_table(result)}\n{_way_out()}")
    expectations = [asdict(item) for item in result.expectations]
    return Report({"passed": result.passed, **result.facts, "expectations": expectations})


def _way_out() -> str:
    return f"See {DOCS / 'index.html'}; mend the source and run `dvc repro`, or change the params of `validate`."


if __name__ == "__main__":
    run("validate", validate, __doc__)

"""The suite of expectations and its run by Great Expectations, with Data Docs for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

from cairn.checks.decoding import DECODED
from cairn.checks.frame import ASCENDING, DERIVED, INSIDE, KNOWN
from cairn.checks.result import EXAMPLES, Expectation
from cairn.files import written_aside
from cairn.manifest import IMAGES
from cairn.params import ValidateParams

TABLE = "(table)"
NAME = "raw data"


Names = Callable[[Sequence[str]], Mapping[str, str]]  # image ids -> the names of their files


class CheckError(RuntimeError):
    """An expectation that could not be evaluated: a fault of the checks, not of the data."""


def expectations(params: ValidateParams) -> list[gxe.Expectation]:
    """What must hold of the frame that `checked_frame` makes; `meta.what` says it in words."""
    share, largest = f"{params.min_decodable_share * 100:g}%", f"{params.max_class_share * 100:g}%"
    return [
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=[*IMAGES.names, *DERIVED], meta=_what("columns are the manifest's, in its order")
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="image_id",
            regex=r"\A[0-9a-f]{16}\Z",
            meta=_what("image ids are 16 lower-case hexadecimals"),
        ),
        gxe.ExpectColumnValuesToBeUnique(column="image_id", meta=_what("image ids are unique")),
        gxe.ExpectColumnValuesToBeInSet(
            column="order", value_set=[ASCENDING], meta=_what("rows are sorted by image id")
        ),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=[KNOWN], meta=_what("labels are known landmarks")),
        gxe.ExpectColumnValuesToBeInSet(
            column="location", value_set=[INSIDE], meta=_what("photos lie inside their shard")
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="size",
            max_value=params.max_photo_mb * 1e6,
            meta=_what(f"photos have at most {params.max_photo_mb:g} MB"),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="decoding",
            value_set=[DECODED],
            mostly=params.min_decodable_share,
            meta=_what(f"at least {share} of the sampled photos decode"),
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="landmark_id",
            min_value=params.min_landmarks,
            meta=_what(f"at least {params.min_landmarks} landmarks have photos"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="landmark_share",
            max_value=params.max_class_share,
            meta=_what(f"no landmark has over {largest} of the landmark photos"),
        ),
    ]


def _what(words: str) -> dict[str, str]:
    return {"what": words}


def run_suite(frame: pd.DataFrame, params: ValidateParams, docs: Path, names: Names) -> list[Expectation]:
    """Check the frame, and build Data Docs in `docs` in place of what is there.

    Raises CheckError if an expectation could not be evaluated.
    """
    with written_aside(docs) as folder:
        outcomes = _run_checkpoint(frame, expectations(params), folder.resolve())
    return [_plain(outcome, names) for outcome in outcomes]


def _run_checkpoint(frame: pd.DataFrame, wanted: list[gxe.Expectation], docs: Path) -> list[Mapping[str, Any]]:
    context = gx.get_context(mode="ephemeral", project_config=_config(docs))
    asset = context.data_sources.add_or_update_pandas(NAME).add_dataframe_asset(NAME)
    batch = asset.add_batch_definition_whole_dataframe(NAME)
    suite = context.suites.add(gx.ExpectationSuite(NAME, expectations=wanted))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=NAME, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=NAME,
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name="data docs")],
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": ["image_id", "landmark_id"],
                "partial_unexpected_count": 20,
            },
        )
    )
    (run,) = checkpoint.run(batch_parameters={"dataframe": frame}).run_results.values()
    return [outcome.to_json_dict() for outcome in run.results]


def _config(docs: Path) -> DataContextConfig:
    """Nothing kept but the Data Docs, no bars, nothing sent anywhere."""
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={
            "raw": {
                "class_name": "SiteBuilder",
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
        },
        progress_bars={"globally": False},
        analytics_enabled=False,
    )


def _shown(name: str) -> str:
    """A file's name that does nothing to the terminal."""
    return name if name.isprintable() else repr(name)


def _plain(outcome: Mapping[str, Any], names: Names) -> Expectation:
    config, result = outcome["expectation_config"], outcome["result"]
    told = outcome["exception_info"]  # of the whole, or of each metric that it needs
    for info in (told, *(part for part in told.values() if isinstance(part, Mapping))):
        if info.get("raised_exception"):
            raise CheckError(f"{config['meta']['what']}: {info['exception_message']}")
    column = config["kwargs"].get("column", TABLE)
    passed = bool(outcome["success"])
    if "unexpected_count" not in result:
        examples = [] if passed else [f"found {result['observed_value']}"]
        return Expectation(config["meta"]["what"], column, passed, 0 if passed else 1, 1, examples)
    looked_at = result["element_count"] - result["missing_count"]
    rows = result["partial_unexpected_index_list"][:EXAMPLES]
    files = names([row["image_id"] for row in rows]) if rows else {}
    examples = [f"{row['image_id']} ({_shown(files[row['image_id']])}): {row.get(column)}" for row in rows]
    return Expectation(config["meta"]["what"], column, passed, result["unexpected_count"], looked_at, examples)

"""``rerank train publish``: writes a checkpoint of a run as a folder that serves."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank_core.cli.shared import AsJson, emit_json, note, show, table
from rerank_core.errors import InputError

if TYPE_CHECKING:
    from rerank_trainers.config.schema import Config
    from rerank_trainers.evaluation.dev_data import DevData

__all__ = ["publish"]


class Dtype(str, Enum):
    """Data type of the published weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Activation(str, Enum):
    """Default activation of the score."""

    none = "none"
    sigmoid = "sigmoid"


def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of one of its checkpoints.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    checkpoint: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Checkpoint after N steps; by default the best, or without a dev set the last."
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Data type of the weights; by default that of the run's configuration.")
    ] = None,
    activation: Annotated[Activation | None, typer.Option(help="Default activation of the published model.")] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(help="Fit the scores to the dev labels, so that their sigmoid is a probability (cross-encoders)."),
    ] = None,
    average_with_start: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Publish the mean of the weights and those of the start; 0.5 is half."
        ),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--eval/--no-eval", help="Evaluate the dev set of the run (data.eval) for the model card.")
    ] = True,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub as well.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: make a private repository.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a published folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a checkpoint: adapters merged, safetensors, tokenizer, reranker.json and a model card.

    \b
    Examples:
      rerank train publish run out/my-reranker
      rerank train publish run out/my-reranker --checkpoint 400 --dtype bfloat16
      rerank train publish run out/my-reranker --calibrate --activation sigmoid --overwrite

    The folder appears after a fresh process has loaded it with the scores of the trained model; an existing folder
    stays until then.
    """
    # These import torch, which `--help` does not need.
    from rerank_trainers.config.schema import PublishConfig
    from rerank_trainers.kinds import KINDS
    from rerank_trainers.model.checkpoints import config_beside, find_checkpoint
    from rerank_trainers.publish.from_run import publish_checkpoint
    from rerank_trainers.publish.hub import push as pushed

    folder = find_checkpoint(run, checkpoint)
    config = config_beside(folder)
    given: dict[str, Any] = {
        "dtype": None if dtype is None else dtype.value,
        "activation": None if activation is None else activation.value,
        "calibrate": calibrate,
        "average_with_start": average_with_start,
    }
    settings = replace(
        PublishConfig() if config is None else config.publish,
        **{name: value for name, value in given.items() if value is not None},
    )
    dev = _dev_rows(config) if evaluate and config is not None and config.data.eval else None
    published = publish_checkpoint(folder, out, KINDS, settings, dev_rows=dev, overwrite=overwrite)
    address = None if push is None else pushed(published.directory, push, private=private)
    if as_json:
        emit_json({"schema_version": 1, **published.to_dict(), "pushed": address})
        return
    rows = [
        ("folder", str(published.directory)),
        ("model", published.name),
        ("weights", published.dtype),
        ("size", f"{published.size / 1e6:,.0f} MB"),
        ("probes with equal scores in a fresh process", str(published.probes)),
        ("largest difference", f"{published.deviation:.1e}"),
        *(
            (f"largest difference in {library}", f"{difference:.1e}")
            for library, difference in published.elsewhere.items()
        ),
    ]
    if published.dtype != "float32":
        rows.append((f"largest difference caused by {published.dtype}", f"{published.rounding:.1e}"))
    if published.scaling is not None:
        rows.append(("calibrated", f"{published.scaling.scale:.6g} × score + {published.scaling.offset:.6g}"))
    if address is not None:
        rows.append(("pushed", address))
    show(table(("published", ""), rows, wrap=("",)))
    note(f"try it: rerank rank QUERY FILES --model {published.directory}")


def _dev_rows(config: Config) -> DevData:
    from rerank_trainers.checks.checked_data import open_dev_rows

    try:
        return open_dev_rows(config.data)
    except InputError as error:
        raise InputError(
            f"the run's dev set (data.eval), which is evaluated for the model card: {error}. Relative paths start at "
            "the directory where the run was started: run this command there, or give --no-eval"
        ) from error

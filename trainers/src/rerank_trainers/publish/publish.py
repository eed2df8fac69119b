"""`publish`: writes a model as a folder that serves, after a fresh process has loaded it with equal scores."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rerank_core import InputError, ModelSpec, Reranker, write_spec
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.errors import NonFiniteScoreError, short
from rerank_core.measures import CalibrationMap, platt
from rerank_core.spec.hub_or_folder import file_path_of
from rerank_core.spec.reranker_json import FILE_NAME
from rerank_trainers.atomic_files import replace_folder, staging_folder
from rerank_trainers.config.schema import PublishConfig
from rerank_trainers.errors import PublishError
from rerank_trainers.model.autocast import forget_autocast
from rerank_trainers.model.lora import plain_module
from rerank_trainers.model.trained_model import Model
from rerank_trainers.publish.card import CardFacts, card
from rerank_trainers.publish.fold import fold
from rerank_trainers.publish.probes import Pair, edges

__all__ = ["TOLERANCE", "Published", "check_target", "publish"]

# Relative to max(1, score). Valid for half precision too: both sides compute in float32 with the rounded weights.
TOLERANCE = 1e-5
# A model that amplifies rounding may differ by _NOISE times the difference of packed and padded rows, at most by _MOST:
# a faulty folder moves scores much further.
_NOISE, _MOST = 10, 1e-3

# Keys that name a path of this machine, or that only transformers 5 knows.
_LOCAL = ("_name_or_path", "name_or_path", "is_local", "local_files_only")


@dataclass(frozen=True)
class Published:
    """A published folder, whose scores in a fresh process equal those of the model.

    Attributes:
        deviation: largest difference of a probe's score between the fresh process and the model (rounded to
            ``dtype``), relative to max(1, score).
        tolerance: the limit on it: 1e-5, or more if the model's rounding in float32 is larger.
        rounding: largest difference caused by ``dtype``, by the same formula; 0 for float32.
        scaling: the calibration written into the weights; None for none.
        probes: number of pairs compared.
        elsewhere: ``deviation`` by other library, for the pairs that it lays out as rerank-core does.
        size: bytes of all files.
    """

    directory: Path
    name: str
    dtype: str
    deviation: float
    tolerance: float
    rounding: float
    scaling: CalibrationMap | None
    probes: int
    elsewhere: Mapping[str, float]
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        scaling = None if self.scaling is None else {"scale": self.scaling.scale, "offset": self.scaling.offset}
        return {**vars(self), "directory": str(self.directory), "scaling": scaling}


def publish(
    model: Model,
    directory: str | os.PathLike[str],
    config: PublishConfig | None = None,
    *,
    facts: CardFacts | None = None,
    probes: Sequence[Pair] = (),
    overwrite: bool = False,
) -> Published:
    """Write weights (adapters merged), tokenizer, ``reranker.json`` and model card to a temporary folder, check that it
    scores as the model does, and rename it to ``directory``. The model itself is not changed.

    Args:
        probes: (query, document) pairs to compare, in addition to the edge cases.
        overwrite: replace a published folder; the old one stays until the new one is checked.

    Raises:
        InputError: the target exists; settings that do not fit the model; labels that do not allow calibration.
        PublishError: the scores differ in a fresh process; nothing is left behind.
    """
    config, facts = config or PublishConfig(), facts or CardFacts(origin=model.origin)
    target = check_target(directory, overwrite=overwrite)
    scaling = _scaling(model, config, facts)
    spec = replace(
        model.spec,
        activation=config.activation,
        license=config.license,
        description=config.description,
        languages=config.languages or model.spec.languages,
        calibrated={} if scaling is None else _record(scaling, facts),
    )
    twin = _copied(model)
    # Scores with the row layout of training: the comparison detects a spec or tokenizer that was saved differently.
    pairs = [*probes, *edges(model.scorer, model.scorer.spec)]
    expected = _scores(twin, model, pairs)
    if hasattr(twin, "peft_config"):
        twin = twin.merge_and_unload().eval()
    if scaling is not None:
        fold(twin, scaling)
        expected = list(map(scaling.logit, expected))
    rounding = 0.0
    if config.dtype != "float32":
        expected, rounding = _rounded(twin, getattr(torch, config.dtype), model, pairs, expected)
    with staging_folder(target) as folder:
        _write(twin.to(getattr(torch, config.dtype)), model, spec, folder)
        text = card(spec, model.kind, facts, folder=folder, dtype=config.dtype, scaling=scaling)
        (folder / "README.md").write_text(text, encoding="utf-8")
        del twin  # frees the memory for the fresh process
        reloaded, elsewhere = _scores_in_fresh_process(folder, pairs)
        answers: dict[str, Sequence[float | None]] = {"the folder": reloaded, **elsewhere}
        tolerance = TOLERANCE
        if TOLERANCE < max(_deviation(expected, scores) for scores in answers.values()) <= _MOST:
            noise = _deviation(reloaded, _scores_in_fresh_process(folder, pairs, "--padded")[0])
            tolerance = min(_MOST, max(TOLERANCE, _NOISE * noise))
        deviations = {
            name: _compare(pairs, expected, scores, f"loaded in a fresh process, {name}", tolerance)
            for name, scores in answers.items()
        }
        deviation = deviations.pop("the folder")
        replace_folder(folder, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Published(
        target, spec.name, config.dtype, deviation, tolerance, rounding, scaling, len(pairs), deviations, size
    )


def check_target(directory: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The absolute path of the folder to publish.

    Raises:
        InputError: something exists there that must not be replaced.
    """
    target = Path(file_path_of(directory, "the folder to publish")).resolve()
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return target
    if not overwrite:
        raise InputError(f"{str(target)!r} exists already; publish elsewhere, or with overwrite")
    if not (target / FILE_NAME).is_file():
        raise InputError(f"{str(target)!r} is no published folder (it has no {FILE_NAME}), so it is not overwritten")
    return target


def _scaling(model: Model, config: PublishConfig, facts: CardFacts) -> CalibrationMap | None:
    if not config.calibrate:
        return None
    if not model.kind.calibrates:
        raise InputError(
            f"publish.calibrate: {model.spec.name!r} is of the kind {model.kind.name!r}, whose weights cannot take a "
            "scale and offset; the card reports the fit. Publish with calibrate=False"
        )
    if facts.after is None or not facts.after.scored:
        raise InputError("publish.calibrate needs a dev set with labels to fit to; set data.eval")
    return platt(facts.after.scored)


def _record(scaling: CalibrationMap, facts: CardFacts) -> dict[str, Any]:
    """``ModelSpec.calibrated``: how `_scaling` was fitted."""
    documents = 0 if facts.after is None else len(facts.after.scored)
    return {**scaling.to_json(), "documents": documents}


def _copied(model: Model) -> Any:
    """A copy of the module on the CPU, in float32 and eval mode."""
    if getattr(model.plain.config, "quantization_config", None) is not None:
        raise InputError(
            "a quantized base cannot be merged with its adapter without loss; publish the checkpoint "
            "(`rerank train publish RUN OUT`), which loads the base in full"
        )
    twin = copy.deepcopy(model.module)
    forget_autocast(twin)
    return twin.to(device="cpu", dtype=torch.float32).eval().requires_grad_(False)


def _scores(module: Any, model: Model, pairs: Sequence[Pair]) -> list[float]:
    """Scores through the serving pipeline, with the row layout of training."""
    spec = replace(model.scorer.spec, languages=())  # the probes are in two languages, of which it may know one
    reranker = Reranker.from_scorer(scorer_of(plain_module(module), model.scorer.tokenizer, spec), spec)
    return reranker.score(pairs)


def _rounded(
    module: Any, dtype: torch.dtype, model: Model, pairs: Sequence[Pair], expected: Sequence[float]
) -> tuple[list[float], float]:
    """Round the weights to ``dtype`` in place and score again; returns the scores and the largest difference."""
    merged = _scores(module, model, pairs)
    _compare(pairs, expected, merged, "with adapters merged and calibration written into it, the model", _MOST)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(dtype).to(tensor.dtype))
    try:
        rounded = _scores(module, model, pairs)
    except NonFiniteScoreError as error:
        raise PublishError(f"in {dtype} the weights of {model.spec.name!r} give no finite scores: {error}") from error
    return rounded, max(map(_difference, merged, rounded))


def _write(module: Any, model: Model, spec: ModelSpec, folder: Path) -> None:
    tokenizer = copy.deepcopy(model.tokenizer)
    # transformers and sentence-transformers truncate at the tokenizer's limit; set it to the length of training.
    tokenizer.model_max_length = spec.max_length
    tokenizer.truncation_side = "right"
    # Saved truncation and padding settings would apply in other libraries.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    layers = module
    if "projection" in module._modules:
        # Saved by the kind; other libraries expect the encoder's weights alone.
        layers = torch.nn.Module()
        layers.projection = module.projection
        del module.projection
    with quiet():
        module.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    write_spec(spec, folder, base=model.base)
    model.kind.write(layers, spec, folder)
    # transformers passes token types only if this list names them; without them every token counts as the query's.
    inputs = ["input_ids", *(["token_type_ids"] if model.scorer.typed else []), "attention_mask"]
    _amend(folder / "tokenizer_config.json", {"model_input_names": inputs})
    _amend(folder / "config.json", model.kind.extra_config(spec))
    model.kind.finish(folder, spec, model.widths)


def _amend(path: Path, more: dict[str, Any]) -> None:
    if not path.is_file():
        return
    data = json.loads(path.read_text(encoding="utf-8"))
    data = {key: value for key, value in data.items() if key not in _LOCAL} | more
    if data.get("tokenizer_class") == "TokenizersBackend":
        data["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name of the same class in transformers 4
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _scores_in_fresh_process(
    folder: Path, pairs: Sequence[Pair], *flags: str
) -> tuple[list[float], dict[str, list[float | None]]]:
    """Scores of the folder in a fresh process, on the CPU and offline, and scores of other libraries there.

    Raises:
        PublishError: the process failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        probes = Path(scratch) / "probes.json"
        probes.write_text(json.dumps(pairs), encoding="utf-8")
        command = [sys.executable, "-m", "rerank_trainers.publish.fresh_process", str(folder), str(probes), *flags]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise PublishError(
            f"in a fresh process the folder does not score the probes: {last.replace(str(folder), 'it')}"
        )
    result = json.loads(done.stdout.splitlines()[-1])
    return result["scores"], result["elsewhere"]


def _compare(
    pairs: Sequence[Pair], expected: Sequence[float], actual: Sequence[float | None], what: str, tolerance: float
) -> float:
    """The largest difference of scores; pairs without a score do not count.

    Raises:
        PublishError: it is above the tolerance; names the pair.
    """
    differences = list(map(_difference, expected, actual))
    worst = max(range(len(pairs)), key=lambda at: differences[at])
    if not differences[worst] <= tolerance:
        raise PublishError(
            f"{what} scores {short(pairs[worst][0])} with {short(pairs[worst][1])} as {actual[worst]!r}, and the model "
            f"that was trained as {expected[worst]!r}; {sum(not d <= tolerance for d in differences)} of {len(pairs)} "
            "probes differ. Nothing was published"
        )
    return differences[worst]


def _difference(expected: float, actual: float | None) -> float:
    return 0.0 if actual is None else abs(actual - expected) / max(1.0, abs(expected))


def _deviation(expected: Sequence[float], actual: Sequence[float | None]) -> float:
    return max(map(_difference, expected, actual))

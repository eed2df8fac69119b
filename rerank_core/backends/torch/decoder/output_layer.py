"""`TokenLogits`: the logits of a few tokens, computed from last hidden states by the causal model's own code.

Models scale, divide, cap or normalise before or after the output layer, each under names of its own. So the ``forward``
of the model's class is run, with two parts replaced: the output layer by one with only the rows needed, and the body by
a module that returns the hidden states it is given. `TokenLogits.check` compares the result with the whole model on a
short row.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_outputs import BaseModelOutputWithPast

from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.backends.torch.safetensors_reader import names_of, rows_of, tensors_of
from rerank_core.errors import CheckpointError

__all__ = ["LabelRows", "TokenLogits", "path_of", "with_part"]


class TokenLogits:
    """Computes logits ``[rows, tokens]`` in float32 from last hidden states ``[rows, width]``.

    Args:
        whole: a causal model of transformers. Its weights are read at each call, so the logits follow training.
        rows: the token ids whose logits are computed.
        model: the model's name for error messages.

    Raises:
        CheckpointError: a module without an output layer.
    """

    def __init__(self, whole: Any, rows: Sequence[int], model: str) -> None:
        layer = whole.get_output_embeddings()
        if layer is None:
            raise CheckpointError(
                f"model {model!r}: a {type(whole).__name__} has no output layer; give the causal model"
            )
        self._model = model
        self._cut = with_part(whole, path_of(whole, layer), LabelRows(layer, rows))
        self._shell = with_part(self._cut, whole.base_model_prefix, _Body(whole.base_model))

    @classmethod
    def of(cls, directory: Path, module: Any, rows: Sequence[int], model: str) -> TokenLogits:
        """Reads the rows of these tokens from a checkpoint whose body was loaded without its output layer.

        Args:
            module: the body.

        Raises:
            CheckpointError: the files or the kind of model have no output layer.
        """
        whole = _causal_model(module, model)
        layer = whole.get_output_embeddings()
        if layer is None:
            raise CheckpointError(f"model {model!r}: a {type(whole).__name__} has no output layer to read labels of")
        name = path_of(whole, layer)
        names = _FileNames(directory, whole)
        weight = _label_rows(directory, names, module, name, rows)
        if weight.shape[1] != layer.weight.shape[1]:
            raise CheckpointError(f"{directory}: {name}.weight is {weight.shape[1]} wide, not {layer.weight.shape[1]}")
        small = torch.nn.Linear(1, 1, bias=False)
        small.weight = _parameter(weight)
        if layer.bias is not None:
            bias = rows_of(directory, names.of(f"{name}.bias"), rows)
            if bias is None:
                raise CheckpointError(f"{directory} lacks {name}.bias, which its kind of model adds to its logits")
            small.bias = _parameter(bias.to(weight))
        whole = with_part(with_part(whole, name, small), whole.base_model_prefix, module)
        _fill(whole, directory, names)
        return cls(whole, range(len(rows)), model)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        # In float32 for every dtype of the model: log-odds are a small difference of large logits, of which bfloat16
        # would keep two or three bits, so that many scores would be equal.
        logits: torch.Tensor = self._shell(inputs_embeds=hidden.float()[None], use_cache=False).logits
        return logits[0].float()

    def check(self, module: Any) -> None:
        """Compare with the logits of the whole model on a short row.

        Args:
            module: the model's body.

        Raises:
            CheckpointError: the logits differ.
        """
        row = torch.tensor([packing.probe_rows(module)[1]], device=module.device)
        training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                expected = self._cut(input_ids=row, use_cache=False).logits[0].float()
                hidden = module(input_ids=row, use_cache=False).last_hidden_state[0]
                logits = self(hidden)
        except Exception as error:  # the code of a model may raise anything
            raise CheckpointError(self._mismatch(module, f"({type(error).__name__}: {error})")) from error
        finally:
            module.train(training)
        # If both are NaN, nothing can be compared; scoring then raises an error that names the documents.
        comparable = bool(torch.isfinite(expected).all()) or bool(torch.isfinite(logits).all())
        if comparable and not packing.agree(list(expected), list(logits), module.dtype):
            raise CheckpointError(self._mismatch(module, f"by {float((expected - logits).abs().max()):.3g}"))

    def _mismatch(self, module: Any, how: str) -> str:
        return (
            f"model {self._model!r}: the logits of its labels cannot be computed from the last hidden states; those of "
            f"a {type(module).__name__}'s own forward pass differ {how}. Score it with transformers"
        )


class LabelRows(torch.nn.Module):
    """An output layer with only some of its rows, in float32."""

    def __init__(self, layer: torch.nn.Module, rows: Sequence[int]) -> None:
        super().__init__()
        self._layer: Any = (layer,)  # in a tuple, so that it does not become a submodule
        self._rows = list(rows)

    @classmethod
    def copied(cls, layer: torch.nn.Module, rows: Sequence[int]) -> LabelRows:
        """The rows copied, so that the whole layer can be freed."""
        source: Any = layer
        small = torch.nn.Linear(1, 1, bias=False)
        small.weight = _parameter(source.weight.detach()[list(rows)].float())
        if getattr(source, "bias", None) is not None:
            small.bias = _parameter(source.bias.detach()[list(rows)].float())
        return cls(small, range(len(rows)))

    @property
    def weight(self) -> torch.Tensor:
        weight: torch.Tensor = self._layer[0].weight[self._rows]
        return weight.float()

    @property
    def bias(self) -> torch.Tensor | None:
        bias = getattr(self._layer[0], "bias", None)
        return None if bias is None else bias[self._rows].float()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if type(self._layer[0]) is torch.nn.Linear:
            return torch.nn.functional.linear(hidden.float(), self.weight, self.bias)
        # A wrapper around the output layer, such as an adapter: only its own forward is right.
        logits: torch.Tensor = self._layer[0](hidden.to(self._layer[0].weight.dtype))[..., self._rows]
        return logits.float()


class _Body(torch.nn.Module):
    """Replaces a model's body (or a part of it): returns ``inputs_embeds`` as the last hidden state."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self._body = (body,)

    def __getattr__(self, name: str) -> Any:
        if name == "_body":
            raise AttributeError(name)
        value = getattr(self._body[0], name)
        return _Body(value) if isinstance(value, torch.nn.Module) else value

    def forward(self, *args: Any, inputs_embeds: torch.Tensor, **kwargs: Any) -> _Output:
        return _Output(last_hidden_state=inputs_embeds)


class _Output(BaseModelOutputWithPast):  # type: ignore[misc]
    """The output of a body; None for fields that only some bodies have, such as router logits."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None


def _causal_model(module: Any, model: str) -> Any:
    """The causal model that belongs to a body, on the meta device."""
    if type(module.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise CheckpointError(f"model {model!r}: transformers has no causal model for a {type(module).__name__}")
    with quiet(), torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(copy.deepcopy(module.config))
    if type(whole.base_model) is not type(module):
        raise CheckpointError(
            f"model {model!r}: a {type(whole).__name__} is made around a {type(whole.base_model).__name__}, and the "
            f"checkpoint was loaded as a {type(module).__name__}; its scores cannot be read"
        )
    return whole.eval()


class _FileNames:
    """Names of weights in the files: transformers renames some when it loads, and saves tied weights once."""

    def __init__(self, directory: Path, whole: Any) -> None:
        self._tied = whole.all_tied_weights_keys
        renamings = [rule for rule in get_model_conversion_mapping(whole) if isinstance(rule, WeightRenaming)]
        self._saved: dict[str, str] = {}
        for saved in names_of(directory):
            name = saved
            for rule in renamings:
                name, _ = rule.rename_source_key(name)
            self._saved[name] = saved

    def of(self, name: str) -> str:
        """The name of a weight in the files; the given name where they do not have it."""
        saved: str = self._saved.get(name) or self._saved.get(self._tied.get(name, "")) or name
        return saved

    def tied(self, name: str) -> bool:
        """Whether a weight is tied to another one and not saved itself."""
        return name not in self._saved and name in self._tied


def _label_rows(directory: Path, names: _FileNames, module: Any, name: str, rows: Sequence[int]) -> torch.Tensor:
    """Rows of the output layer from the files, or of the embeddings that it is tied to."""
    embeddings = module.get_input_embeddings().weight
    # An output layer in the files takes precedence over tied embeddings, as in transformers.
    if names.tied(f"{name}.weight"):
        tied: torch.Tensor = embeddings.detach()[list(rows)].clone()
        return tied
    weight = rows_of(directory, names.of(f"{name}.weight"), rows)
    if weight is None:
        raise CheckpointError(
            f"{directory} has no {name}.weight, and its config.json does not tie it to the embeddings; its scores "
            "would be random. Is this a base model without its output layer?"
        )
    return weight.to(embeddings)


def _fill(whole: Any, directory: Path, names: _FileNames) -> None:
    """Load the weights outside body and output layer from the files."""
    for name, empty in [*whole.named_parameters(), *whole.named_buffers()]:
        if not empty.is_meta:
            continue
        saved = names.of(name)
        tensor = tensors_of(directory, [saved]).get(saved)
        if tensor is None or tensor.shape != empty.shape:
            raise CheckpointError(
                f"{directory} lacks {name!r} {list(empty.shape)}, which lies between hidden states and logits"
            )
        path, _, leaf = name.rpartition(".")
        part = whole.get_submodule(path)
        tensor = tensor.to(whole.device, torch.float32)
        if leaf in part._parameters:
            part._parameters[leaf] = _parameter(tensor)
        else:
            part._buffers[leaf] = tensor


def _parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


def path_of(whole: torch.nn.Module, layer: torch.nn.Module) -> str:
    """The dotted name of a submodule."""
    (name,) = (str(name) for name, part in whole.named_modules() if part is layer)
    return name


def with_part(module: Any, path: str, part: torch.nn.Module) -> Any:
    """A copy of a module with the submodule at ``path`` replaced; everything else is shared."""
    name, _, rest = path.partition(".")
    changed = copy.copy(module)
    changed._modules = {**module._modules, name: with_part(module._modules[name], rest, part) if rest else part}
    return changed

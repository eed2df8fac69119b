"""The logits of a few tokens, as a causal model's own class computes them from the last hidden states.

Models scale, divide, cap or norm before or after the output layer, under names of their own. So the class's own
`forward` is run: with an output layer cut to the rows that are read, and a body that gives the hidden states it is
handed. Whether that gives the logits of the whole model is tried on a short row (`TokenLogits.check`).
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

__all__ = ["TokenLogits"]


class TokenLogits:
    """From hidden states ``[rows, width]`` to logits ``[rows, tokens]`` in float32.

    Args:
        whole: a causal model of transformers; what is read of its weights is read whenever it is called.
        rows: of its output layer.
        model: the name that errors give it.

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
        self._cut = _with(whole, _place(whole, layer), _Rows(layer, rows))
        self._shell = _with(self._cut, whole.base_model_prefix, _Given(whole.base_model))

    @classmethod
    def of(cls, directory: Path, module: Any, rows: Sequence[int], model: str) -> TokenLogits:
        """The output layer of a checkpoint whose body was loaded without it: its label rows alone.

        Raises:
            CheckpointError: no output layer in the files, or a kind of model that has none.
        """
        whole = _around(module, model)
        layer = whole.get_output_embeddings()
        if layer is None:
            raise CheckpointError(f"model {model!r}: a {type(whole).__name__} has no output layer to read labels of")
        name = _place(whole, layer)
        spelt = _Spelling(directory, whole)
        weight = _label_rows(directory, spelt, module, name, rows)
        if weight.shape[1] != layer.weight.shape[1]:
            raise CheckpointError(f"{directory}: {name}.weight is {weight.shape[1]} wide, not {layer.weight.shape[1]}")
        small = torch.nn.Linear(1, 1, bias=False)
        small.weight = _parameter(weight)
        if layer.bias is not None:
            bias = rows_of(directory, spelt.of(f"{name}.bias"), rows)
            if bias is None:
                raise CheckpointError(f"{directory} lacks {name}.bias, which its kind of model adds to its logits")
            small.bias = _parameter(bias.to(weight))
        whole = _with(_with(whole, name, small), whole.base_model_prefix, module)
        _fill(whole, directory, spelt)
        return cls(whole, range(len(rows)), model)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        # In float32 whatever the model computes in: log-odds are a small difference of large logits, of which bfloat16
        # would leave two or three bits, and many equal scores.
        logits: torch.Tensor = self._shell(inputs_embeds=hidden.float()[None], use_cache=False).logits
        return logits[0].float()

    def check(self, module: Any) -> None:
        """Compare with what the whole model gives for a short row.

        Args:
            module: its body.

        Raises:
            CheckpointError: other logits.
        """
        row = torch.tensor([packing.probe_rows(module)[1]], device=module.device)
        training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                expected = self._cut(input_ids=row, use_cache=False).logits[0].float()
                hidden = module(input_ids=row, use_cache=False).last_hidden_state[0]
                found = self(hidden)
        except Exception as error:  # whatever the code of a model makes of it
            raise CheckpointError(self._told(module, f"({type(error).__name__}: {error})")) from error
        finally:
            module.train(training)
        # Logits that are NaN say nothing of the way they were computed; whoever scores names the documents.
        known = bool(torch.isfinite(expected).all()) or bool(torch.isfinite(found).all())
        if known and not packing.agree(list(expected), list(found), module.dtype):
            raise CheckpointError(self._told(module, f"by {float((expected - found).abs().max()):.3g}"))

    def _told(self, module: Any, how: str) -> str:
        return (
            f"model {self._model!r}: the logits of its labels cannot be computed from the last hidden states; those of "
            f"a {type(module).__name__}'s own forward pass differ {how}. Score it with transformers"
        )


class _Rows(torch.nn.Module):
    """A few rows of an output layer, in float32."""

    def __init__(self, layer: torch.nn.Module, rows: Sequence[int]) -> None:
        super().__init__()
        self._layer: Any = (layer,)  # not a module of this one: it is somebody else's
        self._rows = list(rows)

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
        # Something around the output layer, an adapter for instance, which knows alone what its product is.
        logits: torch.Tensor = self._layer[0](hidden.to(self._layer[0].weight.dtype))[..., self._rows]
        return logits.float()


class _Given(torch.nn.Module):
    """In the place of a model's body, or of a part of it: gives the embeddings that it is handed as its result."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self._body = (body,)

    def __getattr__(self, name: str) -> Any:
        if name == "_body":
            raise AttributeError(name)
        found = getattr(self._body[0], name)
        return _Given(found) if isinstance(found, torch.nn.Module) else found

    def forward(self, *args: Any, inputs_embeds: torch.Tensor, **kwargs: Any) -> _Output:
        return _Output(last_hidden_state=inputs_embeds)


class _Output(BaseModelOutputWithPast):  # type: ignore[misc]
    """What a body gives; None for what only some give, as routers' logits or a cache of states."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None


def _around(module: Any, model: str) -> Any:
    """The causal model of a body's kind, on no device, and without memory."""
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


class _Spelling:
    """Names of weights as files spell them: transformers renames some on the way, and saves tied ones once."""

    def __init__(self, directory: Path, whole: Any) -> None:
        self._tied = whole.all_tied_weights_keys
        renamings = [one for one in get_model_conversion_mapping(whole) if isinstance(one, WeightRenaming)]
        self._saved: dict[str, str] = {}
        for saved in names_of(directory):
            name = saved
            for one in renamings:
                name, _ = one.rename_source_key(name)
            self._saved[name] = saved

    def of(self, name: str) -> str:
        """What the files call a weight; its own name where they have none."""
        saved: str = self._saved.get(name) or self._saved.get(self._tied.get(name, "")) or name
        return saved

    def tied(self, name: str) -> bool:
        """Whether a weight is another one, and has no place of its own in the files."""
        return name not in self._saved and name in self._tied


def _label_rows(directory: Path, spelt: _Spelling, module: Any, name: str, rows: Sequence[int]) -> torch.Tensor:
    """The rows of the output layer as the files have it, or of the embeddings that it is tied to."""
    embeddings = module.get_input_embeddings().weight
    # Files that hold an output layer of their own have the last word, as at transformers.
    if spelt.tied(f"{name}.weight"):
        own: torch.Tensor = embeddings.detach()[list(rows)].clone()
        return own
    found = rows_of(directory, spelt.of(f"{name}.weight"), rows)
    if found is None:
        raise CheckpointError(
            f"{directory} has no {name}.weight, and its config.json does not tie it to the embeddings; its scores "
            "would be random. Is this a base model without its output layer?"
        )
    return found.to(embeddings)


def _fill(whole: Any, directory: Path, spelt: _Spelling) -> None:
    """Give weights outside body and output layer those of the files."""
    for name, empty in [*whole.named_parameters(), *whole.named_buffers()]:
        if not empty.is_meta:
            continue
        saved = spelt.of(name)
        found = tensors_of(directory, [saved]).get(saved)
        if found is None or found.shape != empty.shape:
            raise CheckpointError(
                f"{directory} lacks {name!r} {list(empty.shape)}, which lies between hidden states and logits"
            )
        parent, _, own = name.rpartition(".")
        part = whole.get_submodule(parent)
        ready = found.to(whole.device, torch.float32)
        if own in part._parameters:
            part._parameters[own] = _parameter(ready)
        else:
            part._buffers[own] = ready


def _parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


def _place(whole: torch.nn.Module, layer: torch.nn.Module) -> str:
    (name,) = (str(name) for name, part in whole.named_modules() if part is layer)
    return name


def _with(module: Any, path: str, part: torch.nn.Module) -> Any:
    """A copy of a module with another part at a path; everything else is shared."""
    own, _, rest = path.partition(".")
    made = copy.copy(module)
    made._modules = {**module._modules, own: _with(module._modules[own], rest, part) if rest else part}
    return made

"""The ``config.json`` of a GGUF file, from the metadata and the shapes of its tensors.

Keys and defaults are those of llama.cpp's converter and of its graphs; names and values are those of transformers.
"""

from __future__ import annotations

from typing import Any

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.gguf.header import GgufHeader
from rerank_core.spec.gguf.rank_spec import HEAD

__all__ = ["ARCHITECTURES", "config_of", "position_offset"]

_GELU = "gelu_pytorch_tanh"
# llama.cpp's architectures that are read, and transformers' types and settings that no key of the metadata holds.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "hidden_act": "silu"},
    "qwen2": {"model_type": "qwen2", "hidden_act": "silu", "use_sliding_window": False},
    "qwen3": {"model_type": "qwen3", "hidden_act": "silu", "use_sliding_window": False},
    "gemma": {"model_type": "gemma", "hidden_act": _GELU, "hidden_activation": _GELU},
    "gemma2": {"model_type": "gemma2", "hidden_activation": _GELU},
    "gemma3": {"model_type": "gemma3_text", "hidden_activation": _GELU},
    "bert": {},
}
_CLASSES = {
    "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma": "Gemma", "gemma2": "Gemma2", "gemma3": "Gemma3",
}  # fmt: skip
# llama.cpp scales attention of these depths, the 27B models, by the width of a head in the hidden state.
_LARGE = {"gemma2": 46, "gemma3": 62}
# Keys of models that compute more than these architectures do; llama.cpp writes them for a few of "llama".
_UNREAD = (
    "attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale", "embedding_scale", "expert_count",
    "logit_scale", "residual_scale", "rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier",
)  # fmt: skip
_LOCAL_THETA, _PATTERN = 10_000.0, 6  # Gemma 3's sliding layers: base of their rotary embedding; one in six is full
_WORDPIECE, _UNIGRAM = "bert", "t5"


def config_of(header: GgufHeader) -> dict[str, Any]:
    """The settings of a GGUF file's model.

    Raises:
        CheckpointError: an architecture, a scaling of positions or a value that is not supported.
    """
    if header.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{header.file}: the architecture {short(header.architecture)} is not read from GGUF; these are: "
            f"{', '.join(ARCHITECTURES)}. Give the model's safetensors folder"
        )
    for name in _UNREAD:
        key = f"{header.architecture}.{name}"
        if header.metadata.get(key) not in (None, 0, 0.0):
            raise header.metadata.wrong(key, "this is not read from GGUF; give the model's safetensors folder")
    reader = _Settings(header)
    return reader.encoder() if header.architecture == "bert" else reader.decoder()


def position_offset(header: GgufHeader) -> int:
    """Rows that llama.cpp's converter cuts from the position table: XLM-R's positions start after its padding id."""
    if header.metadata.of("tokenizer.ggml.model", str, "") != _UNIGRAM:
        return 0
    offset = header.metadata.of("tokenizer.ggml.padding_token_id", int, 1) + 1
    if not 1 <= offset <= 16:
        raise header.metadata.wrong("tokenizer.ggml.padding_token_id", "XLM-R's is 1")
    return offset


class _Settings:
    """Reads the settings of one file."""

    def __init__(self, header: GgufHeader) -> None:
        self._header, self._metadata = header, header.metadata
        self._architecture = header.architecture

    # ------------------------------------------------------------------ metadata
    def _integer(self, name: str, default: int | None = None) -> int:
        """A positive integer of the architecture; a list of equal ones, one a layer, counts as one."""
        key = f"{self._architecture}.{name}"
        value = self._metadata.get(key)
        if isinstance(value, list):
            if not value or value.count(value[0]) != len(value) or type(value[0]) is not int:
                raise self._metadata.wrong(key, "models whose layers differ are not read from GGUF")
            number: int = value[0]
        else:
            number = self._metadata.of(key, int, 0 if default is None else default)
        if number < 1:
            raise CheckpointError(f"{self._header.file}: {key} is {short(value)}; it must be at least 1")
        return number

    def _float(self, name: str, default: float) -> float:
        return self._metadata.of(f"{self._architecture}.{name}", float, default)

    def _shape(self, name: str, sides: int) -> tuple[int, ...]:
        """The shape of a tensor that the file must have."""
        info = self._header.tensors.get(name)
        if info is None or len(info.shape) != sides:
            have = "is missing" if info is None else f"has the shape {list(info.shape)}"
            raise CheckpointError(f"{self._header.file}: {name!r} {have}; a model needs it with {sides} sides")
        return info.shape

    def _common(self) -> dict[str, Any]:
        vocabulary, width = self._shape("token_embd.weight", 2)
        tokens = len(self._metadata.of("tokenizer.ggml.tokens", list, []))
        if tokens != vocabulary:
            raise CheckpointError(
                f"{self._header.file}: the tokenizer has {tokens} tokens and token_embd.weight has {vocabulary} rows; "
                "they do not belong together"
            )
        if self._integer("embedding_length") != width:
            raise self._metadata.wrong(
                f"{self._architecture}.embedding_length", f"token_embd.weight has rows of {width}"
            )
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "num_hidden_layers": self._integer("block_count"),
            "intermediate_size": self._integer("feed_forward_length"),
            "num_attention_heads": self._integer("attention.head_count"),
            **self._token_ids(),
        }

    def _token_ids(self) -> dict[str, int]:
        ids = {}
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
            value = self._metadata.get(f"tokenizer.ggml.{key}_token_id")
            if value is not None:
                ids[f"{name}_token_id"] = self._metadata.of(f"tokenizer.ggml.{key}_token_id", int, 0)
        return ids

    # ------------------------------------------------------------------ families
    def decoder(self) -> dict[str, Any]:
        common = self._common()
        heads = common["num_attention_heads"]
        head = self._integer("attention.key_length", max(1, common["hidden_size"] // heads))
        if self._integer("attention.value_length", head) != head or head % 2:
            raise CheckpointError(
                f"{self._header.file}: heads of {head} numbers for keys and "
                f"{self._integer('attention.value_length', head)} for values; both must be one even number"
            )
        if self._integer("rope.dimension_count", head) != head:
            raise self._metadata.wrong(
                f"{self._architecture}.rope.dimension_count", f"a model that rotates a part of its heads of {head}"
                " numbers is not read from GGUF",
            )  # fmt: skip
        tensors = self._header.tensors
        config = {
            **common,
            **ARCHITECTURES[self._architecture],
            "architectures": [f"{_CLASSES[self._architecture]}ForCausalLM"],
            "num_key_value_heads": self._integer("attention.head_count_kv", heads),
            "head_dim": head,
            "rms_norm_eps": self._float("attention.layer_norm_rms_epsilon", 1e-6),
            "max_position_embeddings": self._integer("context_length"),
            "rope_parameters": self._rope(head),
            "tie_word_embeddings": "output.weight" not in tensors and HEAD not in tensors,
        }
        if self._architecture == "llama":
            config["attention_bias"] = "blk.0.attn_q.bias" in tensors
            if self._metadata.get("llama.attention.sliding_window") is not None:
                config.update(model_type="mistral", architectures=["MistralForCausalLM"])
                config["sliding_window"] = self._integer("attention.sliding_window")
        if self._architecture in ("gemma2", "gemma3"):
            config.update(self._gemma(common, head))
        return config

    def _gemma(self, common: dict[str, Any], head: int) -> dict[str, Any]:
        """What Gemma 2 and 3 add: soft caps, the scale of attention, and layers of two kinds."""
        depth, second = common["num_hidden_layers"], self._architecture == "gemma2"
        large = depth == _LARGE[self._architecture]
        caps = {"attn": 50.0 if second else 0.0, "final": 30.0 if second else 0.0}
        caps = {name: self._float(f"{name}_logit_softcapping", default) for name, default in caps.items()}
        settings: dict[str, Any] = {
            "query_pre_attn_scalar": common["hidden_size"] // common["num_attention_heads"] if large else head,
            "attn_logit_softcapping": caps["attn"] or None,
            "final_logit_softcapping": caps["final"] or None,
            "sliding_window": self._integer("attention.sliding_window", 4096 if second else 512),
            "layer_types": ["sliding_attention" if slides else "full_attention" for slides in self._sliding(depth)],
        }
        if not second:
            local = self._float("rope.freq_base_swa", _LOCAL_THETA)
            settings["rope_parameters"] = {
                "full_attention": self._rope(head),
                "sliding_attention": {"rope_type": "default", "rope_theta": local},
            }
        return settings

    def _sliding(self, depth: int) -> list[bool]:
        """For each layer, whether its attention has a window: as the file says, or all but one in so many."""
        key = f"{self._architecture}.attention.sliding_window_pattern"
        given = self._metadata.get(key)
        if isinstance(given, list):
            if len(given) != depth or not all(isinstance(slides, bool) for slides in given):
                raise self._metadata.wrong(key, f"it must be a number, or true or false for each of {depth} layers")
            return given
        every = self._integer("attention.sliding_window_pattern", 2 if self._architecture == "gemma2" else _PATTERN)
        return [(layer + 1) % every != 0 for layer in range(depth)]

    def _rope(self, head: int) -> dict[str, Any]:
        """The rotary embedding. Llama 3's factors are a tensor in the file (`rope_freqs`), added when it is read.

        Raises:
            CheckpointError: a scaling that is not supported.
        """
        theta = self._float("rope.freq_base", 1_000_000.0 if self._architecture == "gemma3" else 10_000.0)
        kind = self._metadata.of(f"{self._architecture}.rope.scaling.type", str, "none")
        factor = self._float("rope.scaling.factor", 0.0)
        if "rope_freqs.weight" in self._header.tensors and self._shape("rope_freqs.weight", 1) != (head // 2,):
            raise CheckpointError(f"{self._header.file}: 'rope_freqs.weight' does not have {head // 2} numbers")
        if kind == "none" or factor in (0.0, 1.0):
            return {"rope_type": "default", "rope_theta": theta}
        if kind == "linear" and factor > 0:
            return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
        if kind == "yarn" and factor > 0:
            original = self._integer("rope.scaling.original_context_length", self._integer("context_length"))
            names = (("beta_fast", "yarn_beta_fast", 32.0), ("beta_slow", "yarn_beta_slow", 1.0))
            betas = {name: self._float(f"rope.scaling.{key}", default) for name, key, default in names}
            return {
                "rope_type": "yarn",
                "rope_theta": theta,
                "factor": factor,
                "original_max_position_embeddings": original,
                **betas,
            }
        raise CheckpointError(
            f"{self._header.file}: the scaling of positions {kind!r} by {factor!r} is not read from GGUF; give the "
            "model's safetensors folder"
        )

    def encoder(self) -> dict[str, Any]:
        common = self._common()
        kind = self._metadata.of("tokenizer.ggml.model", str, "")
        if kind not in (_WORDPIECE, _UNIGRAM):
            raise CheckpointError(
                f"{self._header.file}: the tokenizer of a model like BERT is {kind!r}; {_WORDPIECE!r} (BERT) and "
                f"{_UNIGRAM!r} (XLM-R) are read from GGUF. Give the model's safetensors folder"
            )
        rows, _ = self._shape("position_embd.weight", 2)
        types, _ = self._shape("token_types.weight", 2)
        xlm = kind == _UNIGRAM
        config = {
            **common,
            "model_type": "xlm-roberta" if xlm else "bert",
            "architectures": ["XLMRobertaForSequenceClassification" if xlm else "BertForSequenceClassification"],
            "hidden_act": "gelu",
            "layer_norm_eps": self._float("attention.layer_norm_epsilon", 1e-5 if xlm else 1e-12),
            "max_position_embeddings": rows + position_offset(self._header),
            "type_vocab_size": types,
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
        }
        head = self._header.tensors.get(HEAD)
        if head is not None and head.rows != 1:
            raise CheckpointError(
                f"{self._header.file} classifies into {head.rows} labels; a reranker has one. Fine-tune it with "
                "num_labels=1"
            )
        return config

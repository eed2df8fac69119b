"""`PairedDecoder`: a decoder that also takes the tokenizer's pair layout, as classifiers and Dense heads do."""

from __future__ import annotations

from rerank_core.backends.frames import pair_frame
from rerank_core.backends.literal_frame import LiteralFrame
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.spec.template import RenderedTemplate

__all__ = ["PairedDecoder"]


class PairedDecoder(DecoderScorer):
    """A template of the tokenizer's pair layout is laid out like one with literal text: what the pair layout has up to
    the second text is the shared prefix."""

    wraps = ("none", "pair")

    def frame(self, wording: RenderedTemplate) -> LiteralFrame:
        if self.spec.template.wrap == "none":
            return super().frame(wording)
        pair = pair_frame(self.tokenizer, typed=False)
        return LiteralFrame((pair.before,), (pair.between,), (pair.after,), shared=True)

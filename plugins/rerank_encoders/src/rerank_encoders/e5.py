"""The specs of the E5 embedding models (Wang et al., 2022 and 2024)."""

from rerank_core import Head, ModelSpec, Template


def _e5(name: str, revision: str, parameters: int, description: str, languages: tuple[str, ...]) -> ModelSpec:
    """An encoder whose vector is the mean of all tokens; ``query: `` and ``passage: `` belong to the texts. Revisions
    are those of MTEB's model registry."""
    return ModelSpec(
        name=name,
        checkpoint=f"intfloat/{name}",
        revision=revision,
        template=Template.each("query: {query}", "passage: {doc}"),
        head=Head.cosine("mean"),
        max_length=512,
        license="MIT",
        description=description,
        languages=languages,
        parameters=parameters,
    )


_ENGLISH = "English embedding model; a query has `query: ` before it, a passage `passage: `"
_MULTILINGUAL = "embedding model of 100 languages; a query has `query: ` before it, a passage `passage: `"
_MANY = ("zh", "en", "multilingual")

E5 = (
    _e5("e5-small-v2", "dca8b1a9dae0d4575df2bf423a5edb485a431236", 33_000_000, _ENGLISH, ("en",)),
    _e5("e5-base-v2", "1c644c92ad3ba1efdad3f1451a637716616a20e8", 109_000_000, _ENGLISH, ("en",)),
    _e5("e5-large-v2", "b322e09026e4ea05f42beadf4d661fb4e101d311", 335_000_000, _ENGLISH, ("en",)),
    _e5(
        "multilingual-e5-small",
        "fd1525a9fd15316a2d503bf26ab031a61d056e98",
        118_000_000,
        _MULTILINGUAL,
        _MANY,
    ),
    _e5(
        "multilingual-e5-base",
        "d13f1b27baf31030b7fd040960d60d909913633f",
        278_000_000,
        _MULTILINGUAL,
        _MANY,
    ),
    _e5(
        "multilingual-e5-large",
        "ab10c1a7f42e74530fe7ae5be82e6d4f11a719eb",
        560_000_000,
        _MULTILINGUAL,
        _MANY,
    ),
)

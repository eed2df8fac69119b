"""The specs of embedding models made from language models: Qwen3-Embedding (Zhang et al., 2025)."""

from rerank_core import Head, ModelOption, ModelSpec, Template

EMBEDDERS = (
    ModelSpec(
        name="qwen3-embedding-0.6b",
        checkpoint="Qwen/Qwen3-Embedding-0.6B",
        revision="b22da495047858cce924d27d76261e96be6febc0",  # of MTEB's model registry
        # The tokenizer's post-processor adds the end token, whose hidden state is the vector.
        template=Template.each("{instruction}{query}"),
        head=Head.cosine("last"),
        max_length=8192,
        options=(
            ModelOption(
                "instruction", "str", "the task: which documents are relevant; '' for a query without an instruction",
                default="Given a web search query, retrieve relevant passages that answer the query", when="call",
                written="Instruct: {}\nQuery:",
            ),
        ),
        license="Apache-2.0",
        description="embedding model, Qwen3 0.6B; takes an instruction, vectors may be shortened to 32 values",
        languages=("zh", "en", "multilingual"),
        parameters=596_000_000,
    ),
)  # fmt: skip

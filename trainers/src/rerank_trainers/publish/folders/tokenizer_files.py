"""The tokenizer's files in a published folder, as other libraries read them."""

from __future__ import annotations

import shutil
from pathlib import Path

from rerank_trainers.publish.folders.json_files import read_object, write_json

__all__ = ["drop_chat_template"]


def drop_chat_template(folder: Path) -> None:
    """Remove the tokenizer's chat template. sentence-transformers >= 5.4 writes every text with it if there is one, and
    the model was trained on texts without."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    shutil.rmtree(folder / "additional_chat_templates", ignore_errors=True)
    settings = read_object(folder / "tokenizer_config.json")
    if settings.pop("chat_template", None) is not None:
        write_json(folder / "tokenizer_config.json", settings)

"""From the metadata of a GGUF file to the files of a checkpoint folder: its config, its tokenizer and its names."""

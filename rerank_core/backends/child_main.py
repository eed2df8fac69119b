"""The script of `try_in_child`'s child process: reads a tokenizer or renders a chat template from an untrusted file.

The process may crash, or be killed because it does not end. It imports nothing from rerank_core. It reads one line of
JSON from stdin and writes one line of JSON to stdout: null on success, else the error.
"""

import json
import sys

# Texts of every kind: empty, blank, non-Latin, with combining marks, with control characters, and one long word.
TEXTS = ("", " ", "a", "Giant pandas eat 12 kg.", "熊猫吃竹子。", "e\u0301\u200d\ufffd\U0001f43c", "\0\t\n", "x" * 3000)


def limit(seconds: int, memory: int) -> None:
    """Let the operating system end this process above these limits of processor time and memory."""
    try:
        import resource
    except ImportError:  # Windows; the parent process still has a timeout
        return
    for resource_kind, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(resource_kind)[1]
        resource.setrlimit(resource_kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def tokenizer(file: str) -> None:
    """Read a ``tokenizer.json`` and encode texts the way scorers do."""
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(file)
    raw.no_truncation()
    raw.no_padding()
    raw.get_vocab(with_added_tokens=True)
    for specials in (False, True):
        raw.encode_special_tokens = specials
        for text in TEXTS:
            raw.encode(text, add_special_tokens=False)
            raw.encode(text, "a")
            raw.decode(raw.encode(text).ids)


def template(source: str, values: list[dict[str, object]]) -> None:
    """Render a chat template with each of these values, as transformers does."""
    from datetime import datetime

    from jinja2 import TemplateError, ext, nodes, sandbox

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012 -- jinja2 declares it so

        def parse(self, parser):  # type: ignore[no-untyped-def]
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: (
        json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    compiled = environment.from_string(source)
    for each in values:
        compiled.render(**each)


def main() -> None:
    request = json.loads(sys.stdin.readline())
    sys.path[:0] = request["paths"]
    limit(request["seconds"], request["memory"])
    message = None
    try:
        if request["kind"] == "tokenizer":
            tokenizer(*request["arguments"])
        else:
            template(*request["arguments"])
    except ImportError:
        raise
    except BaseException as error:  # noqa: BLE001 -- a Rust panic is not an Exception
        message = f"{type(error).__name__}: {str(error)[:1000]}"
    sys.stdout.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()

"""Run by `trial`, as a script in an interpreter of its own: open what a stranger's folder hands to native code.

It may be killed, or give up, or never end; that is what it is for. It imports nothing of ours. A line of JSON comes in
on stdin, and one goes out: null where all went well, else what is wrong.
"""

import json
import sys

# What a text may hold: nothing, blanks, control characters, marks that combine, no Latin letter, a long word.
TEXTS = ("", " ", "a", "Giant pandas eat 12 kg.", "熊猫吃竹子。", "e\u0301\u200d\ufffd\U0001f43c", "\0\t\n", "x" * 3000)


def limit(seconds: int, memory: int) -> None:
    """Let the system end this process where it needs more processor time or memory than that."""
    try:
        import resource
    except ImportError:  # Windows; whoever started this process still has a clock
        return
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def tokenizer(file: str) -> None:
    """Read a ``tokenizer.json`` and encode texts as scorers do."""
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


def template(source: str, values: dict[str, object]) -> None:
    """Render a chat template as transformers does."""
    from datetime import datetime

    from jinja2 import TemplateError, ext, nodes, sandbox

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012 -- jinja2 declares it so

        def parse(self, parser):  # type: ignore[no-untyped-def]
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def complain(message: str) -> None:
        raise TemplateError(message)

    made = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    made.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    made.globals["raise_exception"] = complain
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    made.from_string(source).render(**values)


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    sys.path[:0] = asked["places"]
    limit(asked["seconds"], asked["memory"])
    try:
        if asked["what"] == "tokenizer":
            tokenizer(*asked["given"])
        else:
            template(*asked["given"])
        said = None
    except ImportError:
        raise
    except BaseException as error:  # noqa: BLE001 -- a panic of Rust is no Exception
        said = f"{type(error).__name__}: {str(error)[:1000]}"
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()

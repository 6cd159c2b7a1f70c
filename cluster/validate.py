"""`python -m cluster.validate [--ready] [FILE...]`: cluster files, checked without a network.

A sentence for each finding: the file, the field, what is wrong with its value, what to
write. Exit status 0 where there is none, 1 where there are some, 2 for wrong use.
Without FILE all files that are shipped here. `--ready` also names what is left to
fill in, which the shipped files have plenty of.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from cluster import _common, _kuberay, _ray_up
from cluster._finding import Finding

HERE = pathlib.Path(__file__).parent
SHIPPED = (
    "aws.yaml", "gcp.yaml", "on-premise.yaml",
    "kuberay/prepare.yaml", "kuberay/networkpolicy.yaml", "kuberay/raycluster.yaml",
    "kuberay/rayjob.yaml", "kuberay/rayjob-staged.yaml",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Check files and print what is wrong with them; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cluster.validate", description=__doc__)
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--ready", action="store_true", help="nothing may be left to fill in")
    parsed = parser.parse_args(arguments)
    files = parsed.files or [HERE / name for name in SHIPPED]
    findings = [each for file in files for each in check(file, ready=parsed.ready)]
    for finding in findings:
        print(finding)
    wrong = len({finding.file for finding in findings})
    print(f"{len(files)} files, {len(findings)} findings in {wrong}", file=sys.stderr)
    return 1 if findings else 0


def check(file: pathlib.Path, *, ready: bool = False) -> list[Finding]:
    """Findings for one file, of `ray up` or of Kubernetes."""
    name = str(file)
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except OSError as error:
        return [Finding(name, (), f"cannot be read: {error.strerror}; name an existing file")]
    except UnicodeDecodeError:
        return [Finding(name, (), "is not text; name a YAML file")]
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        return [Finding(name, (), f"is no YAML{line}; correct it")]
    filled = [document for document in documents if document is not None]
    if not filled:
        return [Finding(name, (), "is empty; begin with a shipped one")]
    return [each for document in filled for each in _document(name, document, ready)]


def _document(file: str, document: Any, ready: bool) -> Iterator[Finding]:
    if not isinstance(document, Mapping):
        yield Finding(file, (), "is no mapping; begin with a shipped file")
        return
    if "apiVersion" in document or "kind" in document:
        yield from _kuberay.check(file, document)
    elif "cluster_name" in document or "provider" in document:
        yield from _ray_up.check(file, document)
    else:
        yield Finding(file, (), "is neither for `ray up` (cluster_name) nor Kubernetes (kind)")
    yield from _common.secrets(file, document)
    if ready:
        yield from _common.placeholders(file, document)


if __name__ == "__main__":
    sys.exit(main())

"""Real configuration files: where they lie, and what their manifest says of them.

The folder is named by FASTINETD_CORPUS, or lies beside the checkout. It holds `xinetd/`, `inetd/` and `manifest.tsv`,
whose first column is the file and whose sixth says what is unusual in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from support.sources import ROOT

FOLDER = Path(os.environ.get("FASTINETD_CORPUS", ROOT.parent / "shared" / "corpus"))
IS_HERE = FOLDER.is_dir()


def read_manifest() -> dict[str, str]:
    """File, as `xinetd/NAME` or `inetd/NAME`, -> remark; {} where the folder is not here."""
    if not IS_HERE:
        return {}
    lines = (FOLDER / "manifest.tsv").read_text(errors="replace").splitlines()[1:]
    return {columns[0]: columns[5] for columns in (line.split("\t") for line in lines) if len(columns) > 5}


REMARKS = read_manifest()


def corpus_files(kind: str) -> list[str]:
    """The files of a kind, as in the manifest, which must have each of them and no other."""
    found = sorted(f"{kind}/{path.name}" for path in (FOLDER / kind).glob("*")) if IS_HERE else []
    listed = sorted(name for name in REMARKS if name.startswith(f"{kind}/"))
    assert found == listed, f"{FOLDER}/manifest.tsv lists other files"
    assert found or not IS_HERE, f"{FOLDER} holds no {kind}/"
    return found

"""The long description: docs/python.md without its relative links, which lead nowhere on a package index."""

from __future__ import annotations

import re
from pathlib import Path


def dynamic_metadata(settings: dict, project: dict) -> dict[str, dict[str, str]]:
    page = Path("docs/python.md").read_text(encoding="utf-8")
    text = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", page)
    return {"readme": {"text": text, "content-type": "text/markdown"}}

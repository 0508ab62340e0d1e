"""Result files and the numbers that their cases hold."""

import json
import os
import pathlib


def load(path: str | os.PathLike) -> dict:
    return json.loads(pathlib.Path(path).read_text())


def save(result: dict, path: str | os.PathLike) -> None:
    """One case a line, so that two results differ in readable places."""
    head = {k: v for k, v in result.items() if k != "cases"}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in result["cases"])
    text = json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n' + lines + "\n]}\n"
    pathlib.Path(path).write_text(text)


def ceiling(case: dict) -> float | None:
    """Seconds of the fastest streaming loop over the case's bytes."""
    times = [t["median"] for name, t in case["seconds"].items() if name.startswith("ceiling")]
    return min(times, default=None)


def ratio(case: dict) -> float | None:
    best = ceiling(case)
    return None if best is None else best / case["seconds"]["mseloss"]["median"]

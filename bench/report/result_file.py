"""Result files: cases and the numbers derived from them."""

import json
import os
import pathlib

NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}


def load(path: str | os.PathLike) -> dict:
    return json.loads(pathlib.Path(path).read_text())


def cases(result: dict, group: str, text: str = "") -> list[dict]:
    """The timed cases of a group whose identifiers contain `text`."""
    return [
        c for c in result["cases"] if c["group"] == group and "seconds" in c and text in c["id"]
    ]


def find(result: dict, group: str, case_id: str) -> dict | None:
    return next((c for c in cases(result, group) if c["id"] == case_id), None)


def median(case: dict | None, name: str = "mseloss") -> float | None:
    """Seconds per call of a contender, if it was timed."""
    return None if case is None or name not in case["seconds"] else case["seconds"][name]["median"]


def slowdown(case: dict | None, name: str) -> float | None:
    """Time of a contender as a multiple of mseloss's."""
    theirs = median(case, name)
    return None if theirs is None else theirs / median(case)


def ceiling(case: dict) -> float | None:
    """Seconds of the fastest streaming loop over the bytes of the case."""
    times = [t["median"] for name, t in case["seconds"].items() if name.startswith("ceiling")]
    return min(times, default=None)


def ratio(case: dict | None) -> float | None:
    """Speed as a fraction of the bandwidth ceiling."""
    best = None if case is None else ceiling(case)
    return None if best is None else best / median(case)

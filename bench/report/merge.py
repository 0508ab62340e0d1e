"""Merges the parts of a run into one result file; missing parts are left out.

merge.py OUT CORE [PEERS] [FORK_JOIN]
"""

import json
import pathlib
import re
import sys

import result_file


def merge(core: dict, peers: dict | None, fork_join: dict | None) -> dict:
    result = dict(core)
    if peers is not None:
        result["versions"] |= peers["versions"]
        result["errors"] = peers["errors"]
        result["end"] = peers["end"]
        result["cases"] += [case | {"group": "peers"} for case in peers["cases"]]
    if fork_join is not None:
        result["fork_join_us"] = fork_join
    return result


def save(result: dict, path: str) -> None:
    """Writes one case per line, so that diffs of two results are readable."""
    head = {k: v for k, v in result.items() if k != "cases"}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in result["cases"])
    text = json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n' + lines + "\n]}\n"
    pathlib.Path(path).write_text(text)


def main() -> None:
    out, *parts = sys.argv[1:]
    loaded = [result_file.load(part) if pathlib.Path(part).exists() else None for part in parts]
    core, peers, fork_join = (*loaded, None, None)[:3]
    save(merge(core, peers, fork_join), out)
    cpu = core["machine"]["cpu"].replace("(R)", "").lower()
    official = re.sub(r"[^a-z0-9]+", "-", cpu).strip("-")
    print(f"{out}; store it as bench/results/{official}.json to make it an official result")


if __name__ == "__main__":
    main()

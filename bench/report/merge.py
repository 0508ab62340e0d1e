"""Puts the parts of a run into one result; missing parts are left out.

merge.py OUT CORE [PEERS] [FORK_JOIN]
"""

import json
import pathlib
import re
import sys

import result as results


def merge(core: dict, peers: dict | None, fork_join: dict | None) -> dict:
    result = dict(core)
    cases = result.pop("cases")
    if peers is not None:
        result["versions"] |= peers["versions"]
        result["errors"] = peers["errors"]
        result["end"] = peers["end"]
        for case in peers["cases"]:
            case["group"] = "peers"
        cases = cases + peers["cases"]
    if fork_join is not None:
        result["fork_join_us"] = fork_join
    return result | {"cases": cases}


def name_of(cpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", cpu.replace("(R)", "").lower()).strip("-")


def main() -> None:
    out, *parts = sys.argv[1:]
    loaded = [json.loads(p.read_text()) if p.exists() else None for p in map(pathlib.Path, parts)]
    core, peers, fork_join = (*loaded, None, None)[:3]
    results.save(merge(core, peers, fork_join), out)
    print(f"{out}; as the official result: bench/results/{name_of(core['machine']['cpu'])}.json")


if __name__ == "__main__":
    main()

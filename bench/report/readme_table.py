"""The README's table of speed and error, in both languages, from one result."""

import json
import pathlib

from tables import NAMES, find, median, ratio_of, table, time_of, times_faster

WORDS = json.loads(pathlib.Path(__file__).with_name("readme_words.json").read_text())
PEERS = ["PyTorch out=", "PyTorch", "torch.compile"]


def readme_speed(result: dict, words: dict) -> str:
    def row(
        label: str, case: dict | None, core: dict | None, numpy: str, jax: str
    ) -> list[str] | None:
        if case is None:
            return None
        peers = [times_faster(case, name) for name in PEERS]
        times = [times_faster(case, numpy), times_faster(case, jax)]
        return [label, time_of(median(case)), ratio_of(core), *peers, *times]

    rows = []
    for dtype, name in NAMES.items():
        case_id = f"grad/{dtype}/dense/mem"
        core = find(result, case_id, "dense")
        rows.append(
            row(
                words["grad"].format(name),
                find(result, case_id, "peers"),
                core,
                "NumPy out=",
                "JAX jit",
            )
        )
    for kind in ("row", "transposed"):
        for dtype in ("f32", "f16"):
            case_id = f"grad/{dtype}/target_{kind}/4096x4096"
            label = words[kind].format(NAMES[dtype]) + words["layout"]
            core = find(result, case_id, "transposed")
            rows.append(row(label, find(result, case_id, "peers"), core, "NumPy out=", "JAX jit"))
    for dtype in ("f32", "f16", "bf16"):
        case_id = f"loss/{dtype}/mean/mem"
        core = find(result, case_id, "dense")
        rows.append(
            row(
                words["loss"].format(NAMES[dtype]),
                find(result, case_id, "peers"),
                core,
                "NumPy",
                "JAX",
            )
        )
    for dtype, n in (
        ("f32", 1 << 16),
        ("f32", 1 << 22),
        ("f32", 1 << 26),
        ("f16", 1 << 26),
        ("bf16", 1 << 26),
    ):
        case = find(result, f"step/{dtype}/{n}", "peers")
        size = f"{n / 1e6:.2g} M" if n >= 1e6 else f"{n / 1e3:.2g} K"
        label = words["step"].format(NAMES[dtype], size)
        rows.append(row(label, case, None, "NumPy", "JAX value_and_grad"))
    return table(words["head"], [r for r in rows if r is not None])


def readme_errors(result: dict, words: dict) -> str:
    rows = []
    for error in result.get("errors", []):
        label = words[f"{error['what']}_error"].format(
            NAMES[error["dtype"]], f"{error['n'] / 1e6:.3g}"
        )
        cells = []
        for name in ("mseloss", "PyTorch", "NumPy", "JAX"):
            value = error["relative"].get(name, "")  # null: the result is infinite
            cells.append("inf" if value is None else f"{value:.1e}" if value != "" else "")
        rows.append([label, *cells])
    return table(words["error_head"], rows)


def readme(result: dict, language: str) -> str:
    words = WORDS[language]
    versions = {"torch": "?", "jax": "?", "numpy": "?"} | result["versions"]
    legend = words["legend"].format(**result["machine"], **versions)
    return "\n\n".join([readme_speed(result, words), legend, readme_errors(result, words)])

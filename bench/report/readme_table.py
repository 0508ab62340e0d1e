"""The README's tables of speed and error, in English and Chinese."""

import json
import pathlib

from result_file import NAMES, find, median
from tables import ratio_text, slowdown_text, table, time_text

WORDS = json.loads(pathlib.Path(__file__).with_name("readme_words.json").read_text())


def speed(result: dict, words: dict) -> str:
    rows = []

    def add(label: str, case_id: str, group: str, numpy: str, jax: str) -> None:
        case = find(result, "peers", case_id)
        if case is not None:
            names = ["PyTorch out=", "PyTorch", "torch.compile", numpy, jax]
            core = ratio_text(find(result, group, case_id))
            cells = (slowdown_text(case, name) for name in names)
            rows.append([label, time_text(median(case)), core, *cells])

    for dtype, name in NAMES.items():
        label = words["grad"].format(name)
        add(label, f"grad/{dtype}/dense/mem", "dense", "NumPy out=", "JAX jit")
    for kind in ("row", "transposed"):
        for dtype in ("f32", "f16"):
            case_id = f"grad/{dtype}/target_{kind}/4096x4096"
            label = words[kind].format(NAMES[dtype]) + words["layout"]
            add(label, case_id, "transposed", "NumPy out=", "JAX jit")
    for dtype in ("f32", "f16", "bf16"):
        label = words["loss"].format(NAMES[dtype])
        add(label, f"loss/{dtype}/mean/mem", "dense", "NumPy", "JAX")
    for dtype, bits in (("f32", 16), ("f32", 22), ("f32", 26), ("f16", 26), ("bf16", 26)):
        n = 1 << bits
        size = f"{n / 1e6:.2g} M" if n >= 1e6 else f"{n / 1e3:.2g} K"
        label = words["step"].format(NAMES[dtype], size)
        add(label, f"step/{dtype}/{n}", "", "NumPy", "JAX value_and_grad")
    return table(words["head"], rows)


def errors(result: dict, words: dict) -> str:
    rows = []
    for error in result.get("errors", []):
        label = words[f"{error['what']}_error"]
        cells = [label.format(NAMES[error["dtype"]], f"{error['n'] / 1e6:.3g}")]
        for name in ("mseloss", "PyTorch", "NumPy", "JAX"):
            value = error["relative"].get(name, "")
            # null stands for an infinite result
            cells.append("inf" if value is None else f"{value:.1e}" if value != "" else "")
        rows.append(cells)
    return table(words["error_head"], rows)


def readme(result: dict, language: str) -> str:
    words = WORDS[language]
    versions = {"torch": "?", "jax": "?", "numpy": "?"} | result["versions"]
    legend = words["legend"].format(**result["machine"], **versions)
    return "\n\n".join([speed(result, words), legend, errors(result, words)])

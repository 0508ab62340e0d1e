#!/usr/bin/env python3
"""Copies the operator into a checkout of CANN's ops-nn repository (docs/ascend_ops_nn.md).

usage: export.py OPS_NN_CHECKOUT
"""

import pathlib
import shutil
import sys

ASCEND = pathlib.Path(__file__).resolve().parents[1]
NAME = "mse_loss_v2_grad"
DEFINE = (
    "#define MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES  // tiling and inference register themselves\n\n"
)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip().splitlines()[-1])
    category = pathlib.Path(sys.argv[1]) / "experimental" / "loss"
    if not category.is_dir():
        sys.exit(f"export.py: {category} is not a folder: is it a checkout of ops-nn?")
    target = category / NAME
    if target.exists():
        sys.exit(f"export.py: {target} already exists")
    shutil.copytree(ASCEND / "ops_nn" / NAME, target)
    for folder in ("op_host", "op_kernel"):
        (target / folder).mkdir(exist_ok=True)
        for source in sorted((ASCEND / folder).glob(f"{NAME}*")):
            text = source.read_text()
            if folder == "op_host" and source.suffix == ".cpp":
                text = DEFINE + text
            (target / folder / source.name).write_text(text)
    (target / "examples").mkdir()
    shutil.copy(ASCEND / "sample" / "main.cpp", target / "examples" / f"test_aclnn_{NAME}.cpp")
    print(target)


main()

"""A griffe extension: signatures from the docstrings of the compiled core, and examples as code."""

import re
from pathlib import Path

import griffe


class Docstrings(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is None or obj.is_alias:
            return
        text = obj.docstring.value
        signature = re.match(r"(?:\w+)?(\(.*\) -> .*)\n*", text)
        if signature is not None:
            text = text[signature.end() :]
            if obj.is_function:
                code = f"def f{signature[1]}: ..."
                parsed = griffe.visit("signature", filepath=Path("signature.py"), code=code)["f"]
                obj.parameters, obj.returns = parsed.parameters, parsed.returns
        obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", text, flags=re.M)

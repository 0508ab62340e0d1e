"""Writes a result's tables into the README (both languages) and docs/performance.md.

    report.py RESULT ROOT

Replaces what stands between <!-- NAME:begin --> and <!-- NAME:end -->; NAME is `table` in the README.
"""

import pathlib
import re
import sys

import lab
import readme_table
import tables


def replace(path: pathlib.Path, name: str, content: str) -> bool:
    if not path.exists():
        return False
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = path.read_text()
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text) is None:
        return False
    path.write_text(pattern.sub(lambda _: f"{begin}\n{content.strip()}\n{end}", text))
    return True


def main() -> None:
    result, root = lab.load(sys.argv[1]), pathlib.Path(sys.argv[2])
    for language, name in (("en", "README.md"), ("zh", "README.zh-CN.md")):
        done = replace(root / name, "table", readme_table.readme(result, language))
        print(f"{name}: {'written' if done else 'has no place for the table'}")
    page = root / "docs" / "performance.md"
    for name, make in tables.PERFORMANCE.items():
        if not replace(page, name, make(result)):
            print(f"{page.name}: has no place for {name}")


if __name__ == "__main__":
    main()

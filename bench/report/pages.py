"""Writes the tables of a result into the READMEs and the pages of docs/.

    pages.py RESULT ROOT

A page decides which tables it shows: the text between <!-- NAME:begin --> and <!-- NAME:end --> is replaced.
NAME is a key of tables.TABLES, or `table` in a README. Exit status 1 if a page has a marker without a table.
"""

import pathlib
import re
import sys

from readme_table import readme
from result_file import load
from tables import TABLES

MARKED = re.compile(r"(<!-- (\w+):begin -->\n).*?(<!-- \2:end -->)", re.DOTALL)


def main() -> int:
    result, root = load(sys.argv[1]), pathlib.Path(sys.argv[2])
    unplaced, unknown = set(TABLES), []
    for page in sorted([*root.glob("README*.md"), *root.glob("docs/*.md")]):
        language = "zh" if page.name.endswith(".zh-CN.md") else "en"

        def fill(match: re.Match, page=page, language=language) -> str:
            begin, name, end = match.groups()
            if name == "table":
                return f"{begin}{readme(result, language)}\n{end}"
            if name not in TABLES:
                unknown.append(f"{page.relative_to(root)}: there is no table {name}")
                return match.group()
            unplaced.discard(name)
            return f"{begin}{TABLES[name](result)}\n{end}"

        text, count = MARKED.subn(fill, page.read_text(encoding="utf-8"))
        if count:
            page.write_text(text, encoding="utf-8")
            print(f"{page.relative_to(root)}: {count} tables")
    for name in sorted(unplaced):
        print(f"no page shows the table {name}")
    for line in unknown:
        print(line, file=sys.stderr)
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main())

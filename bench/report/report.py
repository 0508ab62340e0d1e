"""Writes the tables of a result into the READMEs and the pages of docs/.

    report.py RESULT ROOT

A page says where each table goes: the text between <!-- NAME:begin --> and <!-- NAME:end --> is replaced. NAME is
a key of tables.TABLES, or `table` in a README. Exit status 1 when a page has a marker for which there is no table.
"""

import pathlib
import re
import sys

import readme_table
import result as results
import tables

MARKED = re.compile(r"(<!-- (\w+):begin -->\n).*?(<!-- \2:end -->)", re.DOTALL)


def main() -> int:
    result, root = results.load(sys.argv[1]), pathlib.Path(sys.argv[2])
    unplaced, unknown = set(tables.TABLES), set()
    for page in sorted([*root.glob("README*.md"), *root.glob("docs/*.md")]):
        language = "zh" if page.name.endswith(".zh-CN.md") else "en"

        def fill(match: re.Match, page=page, language=language) -> str:
            begin, name, end = match.groups()
            if name == "table":
                content = readme_table.readme(result, language)
            elif name in tables.TABLES:
                content = tables.TABLES[name](result)
                unplaced.discard(name)
            else:
                unknown.add(f"{page.relative_to(root)}: there is no table {name}")
                return match.group()
            return f"{begin}{content.strip()}\n{end}"

        text = page.read_text(encoding="utf-8")
        filled, count = MARKED.subn(fill, text)
        if count:
            page.write_text(filled, encoding="utf-8")
            print(f"{page.relative_to(root)}: {count} tables")
    for name in sorted(unplaced):
        print(f"no page has a place for the table {name}")
    print(*sorted(unknown), sep="\n", end="\n" if unknown else "", file=sys.stderr)
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main())

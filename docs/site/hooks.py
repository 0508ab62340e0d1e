"""MkDocs hooks: pages from outside docs/, pages of the source files that documents link to, and the API.

The documents stay as a reader of the repository sees them. On the site, README.md is the first page, and a
link to a source file leads to a page that shows it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {  # path from the root: path on the site
    "README.md": "index.md",
    "README.zh-CN.md": "README.zh-CN.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
}
PYTHON = (
    "mseloss",
    "mseloss.torch",
    "mseloss.jax",
    "mseloss.dask",
    "mseloss.xarray",
    "mseloss.mpi",
)
PYTHON_DETAILS = ("mseloss.metrics", "mseloss.memory", "mseloss.reference")
CPP = ("mseloss.h", "types.h", "partial_sum.h", "threads.h", "mpi.h")
LANGUAGES = {
    ".h": "cpp",
    ".cpp": "cpp",
    ".c": "c",
    ".py": "python",
    ".json": "json",
    ".txt": "text",
}
CSS = ".md-grid { max-width: 72rem }\n.md-typeset table:not([class]) { font-size: .68rem }\n"
CSS += ".md-typeset table:not([class]) td:first-child { min-width: 9rem }\n"

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.M | re.S)


def on_files(files, config):
    sources = {}
    pages = {uri: (ROOT / path).read_text(encoding="utf-8") for path, uri in OUTSIDE.items()}
    for path, uri in OUTSIDE.items():
        pages[uri] = rewritten(pages[uri], path, uri, sources)
    for file in files.documentation_pages():
        text = Path(file.abs_src_path).read_text(encoding="utf-8")
        pages[file.src_uri] = rewritten(text, f"docs/{file.src_uri}", file.src_uri, sources)
    pages |= {"api/python.md": python_page(), "api/cpp.md": cpp_page(), "site.css": CSS}
    queue = list(sources)
    for path in queue:  # a page of a source file may link to others
        pages[sources[path]] = source_page(path)
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text)) if (
            existing := files.get_file_from_path(uri)
        ) is None else replace(files, existing, config, text)
    return files


def replace(files, existing, config, text):
    files.remove(existing)
    files.append(File.generated(config, existing.src_uri, content=text))


def rewritten(text, path, uri, sources):
    """The page at `path` in the repository with links that hold at `uri` on the site."""

    def link(match):
        target, hash_, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:", target) or not target:
            return match[0]
        real = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        place = site_path(real, sources)
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(uri) or '.')}{hash_}{anchor}{match[3]}"

    parts = _CODE.split(text)
    return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(parts))


def site_path(path, sources):
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if not (ROOT / path).exists():
        return path  # reported as a broken link
    return sources.setdefault(
        path, f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"
    )


def source_page(path):
    file = ROOT / path
    if file.is_dir():
        names = sorted(
            p.relative_to(ROOT).as_posix() for p in file.rglob("*") if p.suffix in LANGUAGES
        )
        return f"# {path}\n\nThe folder has these files:\n\n" + "".join(
            f"- `{name}`\n" for name in names
        )
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    return f"# {path}\n\n{fenced(text, LANGUAGES.get(file.suffix, 'text'))}"


def fenced(text, language):
    return f"````{language}\n{text.rstrip()}\n````\n"


def python_page():
    import mseloss

    names = [
        n for n in mseloss.__all__ if n[0] != "_" and f"mseloss.{n}" not in PYTHON + PYTHON_DETAILS
    ]
    lines = ["# Python API", "", "Generated from the docstrings.", "", "## mseloss", ""]
    lines += [f"::: mseloss.{name}\n    options: {{heading_level: 3}}\n" for name in names]
    for module in (*PYTHON[1:], *PYTHON_DETAILS):
        public = __import__(module, fromlist=["__all__"])
        lines += [f"## {module}", "", (public.__doc__ or "").split("\n\n")[0], ""]
        for name in getattr(public, "__all__", ("usage", "limit", "set_limit", "trim")):
            if callable(getattr(public, name)):
                lines.append(f"::: {module}.{name}\n    options: {{heading_level: 3}}\n")
    return "\n".join(lines)


def cpp_page():
    lines = [
        "# C++ API",
        "",
        "The public headers. Link `mseloss::mseloss`; `mpi.h` needs `mseloss::mpi`.",
        "",
    ]
    for name in CPP:
        text = (ROOT / "include/mseloss" / name).read_text(encoding="utf-8")
        lines += [f"## mseloss/{name}", "", fenced(text, "cpp")]
    return "\n".join(lines)

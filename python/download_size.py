"""Prints what `pip install -r REQUIREMENTS` would download: how many packages, how many bytes, the largest.

pip resolves the requirements in a dry run; the sizes are those that the package index reports.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

LARGE = 100_000_000  # bytes


def main(requirements: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        packages = list(pool.map(size, report(requirements)))
    known = [(name, count) for name, count in packages if count is not None]
    total = sum(count for _, count in known)
    least = (
        "" if len(known) == len(packages) else f" at least ({len(packages) - len(known)} unknown)"
    )
    print(f"{len(packages)} Python packages to download:{least} {total / 1e6:,.0f} MB")
    for name, count in sorted(known, key=lambda package: -package[1]):
        if count >= LARGE:
            print(f"  {name}: {count / 1e6:,.0f} MB")
    cuda = sum(count for name, count in known if name.startswith("nvidia-"))
    if cuda:
        print(
            f"  {cuda / 1e6:,.0f} MB of these are CUDA libraries, which PyTorch's CPU build does not need."
        )
        print("  CONTRIBUTING.md, Downloads, says how to get that build.")


def report(requirements: str) -> list[dict]:
    """The packages that pip would install, as its installation report lists them."""
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--report", file.name]
        subprocess.run([*command, "-r", requirements], check=True)
        return json.load(file)["install"]


def size(package: dict) -> tuple[str, int | None]:
    """The package's name and its size in bytes; None if the server does not tell."""
    name, url = package["metadata"]["name"], package["download_info"]["url"]
    if url.startswith("file:"):
        return name, os.path.getsize(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return name, int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return name, None


if __name__ == "__main__":
    main(sys.argv[1])

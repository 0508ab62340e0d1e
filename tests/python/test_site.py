"""The documentation site: built without warnings, its links hold, and a browser shows it.

./dev docs builds it. Without MkDocs or Chromium the tests are skipped.
"""

import fcntl
import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("mkdocs", "material", "mkdocstrings_handlers", "jieba"):
        pytest.importorskip(module, reason=f"needs {module}: run ./dev docs first")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one site for all workers
        folder = folder.parent
    with open(folder / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "site/sitemap.xml").exists():
            build(folder / "site")
    return folder / "site"


def build(folder):
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert run.returncode == 0, run.stderr


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        for key in ("href", "src"):
            if attributes.get(key) is not None:
                self.targets.append(attributes[key])


def test_every_link_and_anchor_exists(site):
    pages = {
        p: Links(p.read_text(encoding="utf-8"))
        for p in site.rglob("*.html")
        if p.name != "404.html"
    }
    assert len(pages) > 30
    checked = 0
    for page, links in pages.items():
        for target in links.targets:
            url = urllib.parse.urlsplit(target)
            if url.scheme or url.netloc:
                assert url.scheme in ("https", "mailto", "data"), (page, target)
                continue
            file = (page.parent / urllib.parse.unquote(url.path)).resolve() if url.path else page
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), (page, target)
            if url.fragment and file in pages:
                assert urllib.parse.unquote(url.fragment) in pages[file].anchors, (page, target)
            checked += 1
    assert checked > 1000


def test_every_public_name_is_on_the_api_page(site):
    import mseloss

    page = (site / "api/python/index.html").read_text(encoding="utf-8")
    modules = ("dask", "jax", "memory", "metrics", "mpi", "reference", "torch", "xarray")
    for name in set(mseloss.__all__) - set(modules) - {"__version__"}:
        assert f'id="mseloss.{name}"' in page
    for header in ("mseloss.h", "partial_sum.h", "types.h"):
        assert f"mseloss/{header}" in (site / "api/cpp/index.html").read_text(encoding="utf-8")


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves the site; a request that takes long stops the browser's clock while search starts."""

    def do_GET(self):
        if self.path.startswith("/wait"):
            time.sleep(int(self.path.partition("?")[2]))
            self.send_response(204)
            self.end_headers()
            return
        super().do_GET()

    def copyfile(self, source, output):
        content = source.read()
        seconds = self.path.partition("wait=")[2]
        if seconds:
            content += b"<script>fetch('/wait?%s')</script>" % seconds.encode()
        output.write(content)

    def send_header(self, keyword, value):
        if keyword != "Content-Length":  # the script follows
            super().send_header(keyword, value)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def browse(site, tmp_path_factory):
    """Opens a page of the site in a browser and returns its document after its scripts have run."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    profile = tmp_path_factory.mktemp("profile")

    def open_page(path, *options, output="--dump-dom"):
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
        ]
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        run = subprocess.run(
            [*command, "--virtual-time-budget=5000", *options, output, url],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    yield open_page
    server.shutdown()
    server.server_close()


def test_a_browser_shows_pages_with_their_pictures(browse, tmp_path):
    for path, text in (("performance/", "bandwidth ceiling"), ("README.zh-CN/", "简体中文")):
        document = browse(path)
        assert text in document
        assert document.count('class="md-nav__link"') > 5
    picture = tmp_path / "page.png"
    browse("performance/", "--window-size=1200,900", output=f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 30_000  # an empty page has about 5 kB


@pytest.mark.parametrize(("words", "page"), [("PartialSum", "api/python/"), ("梯度", "zh-CN/")])
def test_search_finds_pages_in_both_languages(browse, words, page):
    for seconds in (5, 20, 60):
        document = browse(f"?q={urllib.parse.quote(words)}&wait={seconds}")
        found = re.findall(r'href="([^"]*)" class="md-search-result__link"', document)
        if found:
            break
    assert any(page in urllib.parse.unquote(link) for link in found), found

"""The documentation site: built without warnings, its links hold, and a browser shows it.

./dev docs builds it. Without MkDocs or Chromium the tests are skipped.
"""

import fcntl
import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
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


# Sends the links of the search results to the server as soon as there are any. Virtual time would not do: the
# browser does not wait for the worker that searches.
REPORT_RESULTS = b"""<script>
const timer = setInterval(() => {
  const links = [...document.querySelectorAll("a.md-search-result__link")].map((link) => link.href);
  if (links.length == 0) return;
  clearInterval(timer);
  fetch("/results", {method: "POST", body: JSON.stringify(links)});
}, 100);
</script>"""


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves the site. A page asked for with ?q=WORDS, Material's form of a search, reports what it found."""

    def do_POST(self):
        results = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.results.put(json.loads(results))
        self.send_response(204)
        self.end_headers()

    def copyfile(self, source, output):
        output.write(source.read())
        if "?q=" in self.path:
            output.write(REPORT_RESULTS)

    def send_header(self, keyword, value):
        if keyword != "Content-Length":  # the script follows
            super().send_header(keyword, value)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(site):
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, directory=str(site))
    ) as server:
        server.results = queue.Queue()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def chromium(tmp_path):
    """The command of a browser without a window and with a profile of its own."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return [
        CHROMIUM,
        "--headless",
        "--no-sandbox",  # which root cannot have
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]


def output_of(command):
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_browser_shows_pages_with_their_pictures(server, chromium, tmp_path):
    chromium.append("--virtual-time-budget=5000")
    for path, text in (("performance/", "bandwidth ceiling"), ("README.zh-CN/", "简体中文")):
        document = output_of([*chromium, "--dump-dom", f"{server.url}/{path}"])
        assert text in document
        assert document.count('class="md-nav__link"') > 5
    picture = tmp_path / "page.png"
    page = f"{server.url}/performance/"
    output_of([*chromium, "--window-size=1200,900", f"--screenshot={picture}", page])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 30_000  # an empty page has about 5 kB


@pytest.mark.parametrize(("words", "page"), [("PartialSum", "api/python/"), ("梯度", "zh-CN/")])
def test_search_finds_pages_in_both_languages(server, chromium, words, page):
    url = f"{server.url}/?q={urllib.parse.quote(words)}"
    browser = subprocess.Popen(
        [*chromium, "--remote-debugging-port=0", url],  # with a port it runs until it is stopped
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = server.results.get(timeout=180)
    finally:
        browser.terminate()
        browser.wait(60)
    assert any(page in urllib.parse.unquote(link) for link in found), found

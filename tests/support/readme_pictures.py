"""
The pictures in README.md, of MiniLM with 2:4 weights: `python -m tests.support.readme_pictures` makes them anew.

Needs Chromium. The timeline is that of the report, of the same schedule that `sta run --trace` writes.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.compile_time import export

DOCS = Path(__file__).parents[2] / "docs"
MODULE = "encoder.layer.0.attention.self"
WIDTH, HEIGHT = 1320, 900
SECONDS = 1000.0


def make_report(folder: Path) -> Path:
    """Compiles MiniLM and returns the path of its report."""
    export("MiniLM", folder / "minilm.pt2")
    sta = [sys.executable, "-m", "sta"]
    compile_ = [*sta, "compile", "minilm.pt2", "-o", "minilm.sta", "--sparsity", "2:4", "--dump-ir", "ir"]
    for command in (compile_, [*sta, "report", "minilm.sta", "--ir", "ir", "-o", "minilm.html"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder / "minilm.html"


def take_pictures(report: Path) -> None:
    """Writes pictures of a report's beginning, and of what the units do in one module."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(report.as_uri())
        page.wait_for_selector("body[data-ready=yes]", timeout=60 * SECONDS)
        page.wait_for_timeout(2 * SECONDS)
        page.screenshot(path=DOCS / "report.png")
        page.click(f"#layers tr[data-module='{MODULE}']")
        page.wait_for_timeout(2 * SECONDS)
        page.locator("#timeline").screenshot(path=DOCS / "timeline.png")
        browser.close()


def main() -> None:
    """Makes both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        take_pictures(make_report(Path(folder)))


if __name__ == "__main__":
    main()

"""`sta report`: the page, in a real browser."""

import base64
import dataclasses
import gzip
import json
import re
import shutil
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright
from torch import nn

import sta
from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from sta.runtime import Program

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
READY = "body[data-ready=yes]"
SECONDS = 1000.0

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Files(NamedTuple):
    """A program, inputs, and the reports made of them."""

    program: Path
    inputs: Path
    report: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Returns a compiled encoder layer with inputs and its report."""
    folder = tmp_path_factory.mktemp("report")
    files = Files(folder / "layer.sta", folder / "in.npz", folder / "report.html")
    torch.manual_seed(2)  # pyright: ignore[reportUnknownMemberType]
    layer = nn.TransformerEncoderLayer(64, 2, 96, 0.0, batch_first=True).eval()
    source = torch.randn(1, 24, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = sta.compile(layer, {"src": source}, target="sta-small", sparsity="2:4", dump_ir=folder / "ir")
    program.save(files.program)
    np.savez(files.inputs, src=source.numpy())
    command = ["report", str(files.program), "--inputs", str(files.inputs), "--ir", str(folder / "ir")]
    assert main([*command, "-o", str(files.report)]) == 0
    return files


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Returns a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Shown(NamedTuple):
    """A page that is shown, and what went wrong on it."""

    page: Page
    errors: list[str]


def show(browser: Browser, report: Path, width: int = 1280) -> Shown:
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "blob:")) else errors.append(request.url)
    )
    page.goto(report.as_uri())
    page.wait_for_selector(READY, timeout=60 * SECONDS)
    return Shown(page, errors)


def embedded(report: Path) -> dict[str, Any]:
    """Returns the data that a report holds."""
    match = re.search(r'id="data">([^<]*)<', report.read_text(encoding="utf-8"))
    assert match is not None
    return json.loads(gzip.decompress(base64.b64decode(match[1])))


def run_json(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> dict[str, Any]:
    capsys.readouterr()
    command = ["run", str(files.program), "--inputs", str(files.inputs), "-o", str(tmp_path / "out.npz")]
    assert main([*command, "--json", "--profile"]) == 0
    return json.loads(capsys.readouterr().out)


def test_numbers_are_those_of_the_run(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    assert embedded(files.report)["run"] == run_json(capsys, files, tmp_path)


def test_weights_are_shown_as_they_are(files: Files) -> None:
    data = embedded(files.report)
    assert [weight["pattern"] for weight in data["weights"]] == ["2:4"] * 6
    assert {weight["module"] for weight in data["weights"]} == {"self_attn", "linear1", "linear2"}
    for weight in data["weights"]:
        picture = np.frombuffer(base64.b64decode(weight["picture"]["density"]), np.uint8)
        assert picture.size == weight["picture"]["rows"] * weight["picture"]["columns"]
        # Random weights have few zeros among those that are kept.
        assert 0.48 < weight["density"] <= 0.5
        assert abs(picture.mean() / 255 - weight["density"]) < 0.02


def test_passes_are_shown_with_their_diffs(files: Files) -> None:
    steps = embedded(files.report)["ir"]
    names = [step["name"] for step in steps]
    assert names.index("convert-torch-to-nm") < names.index("convert-nm-to-sta")
    assert all(step["text"] for step in steps)
    assert all(step["diff"] for step in steps[1:])


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_shows_the_numbers(
    browser: Browser, capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, width: int
) -> None:
    expected = run_json(capsys, files, tmp_path)
    page, errors = show(browser, files.report, width)
    shown = page.eval_on_selector_all(".card b", "all => all.map(one => [one.dataset.name, Number(one.dataset.value)])")
    values = dict(shown)
    assert values["cycles"] == expected["cycles"]
    assert values["MAC efficiency"] == expected["mac_efficiency"]
    assert values["DRAM traffic"] == expected["dram_bytes"]
    assert page.inner_text(".card b[data-name=cycles]") == f"{expected['cycles']:,}"
    rows = page.eval_on_selector_all(
        "#layers tbody tr",
        "rows => rows.map(row => [row.dataset.module, Number(row.querySelector('[data-name=cycles]').dataset.value)])",
    )
    assert rows == [[row["module"], row["cycles"]] for row in expected["profile"]["rows"]]
    # Nothing sticks out to the side, and every section is there.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("section").count() == 11
    # What a link leads to is not under the head of the page.
    page.click("nav a[href='#weights']")
    assert page.evaluate(
        "document.querySelector('#weights h2').getBoundingClientRect().top"
        " > document.querySelector('header').getBoundingClientRect().bottom"
    )
    page.wait_for_selector("#memory canvas, #memory svg", timeout=60 * SECONDS)
    assert errors == []
    page.close()


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_index_of_a_dump_fits(browser: Browser, files: Files, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((files.program.parent / "ir" / "index.html").as_uri())
    steps = [step for step in Dump.read(files.program.parent / "ir").steps if step.diff_file is not None]
    assert page.locator("details").count() == len(steps)
    page.click(f"summary:has-text('{steps[0].file}')")
    assert page.locator("details[open] .add").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@needs_browser
def test_choosing_and_searching(browser: Browser, files: Files) -> None:
    page, errors = show(browser, files.report)
    container = sta.load(files.program).container
    own = [pc for pc in range(len(container.code)) if container.module_path(pc) == "linear1"]
    page.click("#layers tr[data-module=linear1]")
    assert page.inner_text("#selection span") == "linear1"
    assert page.inner_text("#code .shown") == f"{len(own)} of {len(container.code)} instructions"
    assert page.locator("#weights figure.chosen").count() == 1
    ir = page.locator("#ir .code div").all_text_contents()
    assert ir
    assert all('"linear1' in line for line in ir)
    # From an instruction to the timeline: the executions from there on.
    page.click(f"#pc{own[-1]}")
    assert page.locator("#code .chosen").count() == 1
    page.click("#selection button")
    assert page.is_hidden("#selection")
    page.fill("#search", "norm")
    modules = page.eval_on_selector_all("#layers tbody tr", "rows => rows.map(row => row.dataset.module)")
    assert modules == ["norm1", "norm2"]
    page.fill("#search", "linear?")
    assert page.eval_on_selector_all("#layers tbody tr", "rows => rows.length") == 2
    page.fill("#search", "nothing*")
    assert page.inner_text("#layers tbody") == "No module's path matches."
    page.fill("#search", "")
    # Sorted by cycles, most first.
    page.click("#layers th:has-text('cycles')")
    cycles = page.eval_on_selector_all(
        "#layers td[data-name=cycles]", "all => all.map(one => Number(one.dataset.value))"
    )
    assert cycles == sorted(cycles, reverse=True)
    page.select_option("#ir select[aria-label='text or diff']", "diff")
    assert page.locator("#ir .added").count() > 0
    # What changed in one module: a diff has no locations but the module that each of its parts begins in.
    all_lines = page.locator("#ir .code div").count()
    page.click("#layers tr[data-module=linear1]")
    parts = page.locator("#ir .place").all_text_contents()
    assert parts
    assert all(part.endswith("@@ linear1") for part in parts)
    assert 0 < page.locator("#ir .added").count() < page.locator("#ir .code div").count() < all_lines
    page.click("#selection button")
    page.select_option("#memory select", "wbuf")
    assert errors == []
    page.close()


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_header_hides_no_title(browser: Browser, files: Files, width: int) -> None:
    page, errors = show(browser, files.report, width)
    page.click("tr[data-module=linear1]")
    for section in ("layers", "timeline", "ir"):
        page.click(f'nav a[data-section="{section}"]')
        title, header = page.locator(f"#{section} h2").bounding_box(), page.locator("header").bounding_box()
        assert title is not None
        assert header is not None
        assert header["y"] + header["height"] <= title["y"] < page.viewport_size["height"]  # pyright: ignore[reportOptionalSubscript]
    assert errors == []


def test_a_dump_of_another_program_is_refused(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = nn.TransformerEncoderLayer(64, 2, 32, 0.0, batch_first=True).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sta.compile(other, {"src": torch.randn(1, 24, 64)}, target="sta-small").save(tmp_path / "other.sta")
    folder = files.program.parent / "ir"
    report = ["report", str(tmp_path / "other.sta"), "--ir", str(folder), "-o", str(tmp_path / "r.html")]
    for command in (report, ["where", str(tmp_path / "other.sta"), f"{folder / '00-import.mlir'}:12"]):
        assert main(command) == 1
        assert f"{folder} is the dump of another program" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
    # One that has not come to its end may be of any program.
    shutil.copytree(folder, tmp_path / "ir")
    dataclasses.replace(Dump.read(tmp_path / "ir"), program=None).write()
    assert main(["where", str(files.program), f"{tmp_path / 'ir' / '00-import.mlir'}:12"]) == 1
    assert "has not come to its end" in capsys.readouterr().err


def test_files_of_the_dump_that_are_gone_are_named(files: Files, tmp_path: Path) -> None:
    shutil.copytree(files.program.parent / "ir", tmp_path / "ir")
    steps = [step for step in Dump.read(tmp_path / "ir").steps if step.file is not None]
    assert steps[1].diff_file is not None
    assert steps[2].file is not None
    assert steps[-1].file is not None
    for file in (steps[1].diff_file, steps[-1].file):
        (tmp_path / "ir" / file).unlink()
    (tmp_path / "ir" / steps[2].file).write_bytes(b"\xff")
    assert main(["report", str(files.program), "--ir", str(tmp_path / "ir"), "-o", str(tmp_path / "r.html")]) == 0
    data = embedded(tmp_path / "r.html")
    missing = [text.partition(" ")[0] for text in data["missing"]]
    assert missing == [steps[1].diff_file, steps[2].file, steps[-1].file]
    assert (data["ir"][1]["diff"], data["ir"][2]["text"], data["ir"][-1]["text"]) == ("", "", "")
    assert all(step["text"] or number in (2, len(steps) - 1) for number, step in enumerate(data["ir"]))


def without_debug(program: Program) -> Program:
    debug: dict[str, Any] = {"instructions": [], "buffers": [], "constants": []}
    return Program(dataclasses.replace(program.container, debug=debug, ir=""))


@needs_browser
def test_without_debug_map(browser: Browser, files: Files, tmp_path: Path) -> None:
    without_debug(sta.load(files.program)).save(tmp_path / "bare.sta")
    assert main(["report", str(tmp_path / "bare.sta"), "-o", str(tmp_path / "bare.html")]) == 0
    page, errors = show(browser, tmp_path / "bare.html")
    text = page.inner_text("ul.missing")
    assert "no module paths" in text
    assert "no buffers" in text
    assert "no IR" in text
    assert "there are no passes" in text
    assert errors == []
    page.close()


@needs_browser
def test_a_module_whose_name_begins_like_another_is_another(browser: Browser, files: Files, tmp_path: Path) -> None:
    program = sta.load(files.program)
    lines = ['loc("layer.1"(', 'loc("layer.10"(', '@"layer.1.weight"', '@"layer.10.weight"', '"layer.10 layer.1"']
    debug = {**program.container.debug, "instructions": [[0, "layer.1", "x"], [20, "layer.10", "x"]]}
    Program(dataclasses.replace(program.container, debug=debug, ir="\n".join(lines))).save(tmp_path / "m.sta")
    assert main(["report", str(tmp_path / "m.sta"), "-o", str(tmp_path / "r.html")]) == 0
    page, errors = show(browser, tmp_path / "r.html")
    page.click("#layers tr[data-module='layer.1']")
    assert page.locator("#ir .code div").all_text_contents() == [lines[0], lines[2]]
    assert page.inner_text("#code .shown").startswith("20 of ")
    assert errors == []
    page.close()


@needs_browser
def test_names_cannot_do_harm(browser: Browser, files: Files, tmp_path: Path) -> None:
    program = sta.load(files.program)
    evil = "</script><img src=x onerror=\"document.title='owned'\"><!--{{data}}"
    debug = {**program.container.debug, "instructions": [[0, evil, evil]]}
    Program(dataclasses.replace(program.container, debug=debug, ir=evil)).save(tmp_path / "evil.sta")
    assert main(["report", str(tmp_path / "evil.sta"), "-o", str(tmp_path / "<b>evil.html")]) == 0
    page, errors = show(browser, tmp_path / "<b>evil.html")
    assert page.title() == "evil.sta"
    assert page.locator("img").count() == 0
    assert evil in page.inner_text("#layers")
    assert errors == []
    page.close()


def test_wrong_calls(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    assert main(["report", str(files.program), "-o", str(tmp_path / "no" / "r.html")]) == 1
    assert "there is no directory" in capsys.readouterr().err
    assert main(["report", str(files.program), "--ir", str(tmp_path), "-o", str(tmp_path / "r.html")]) == 1
    assert "holds no dump of IR" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_two_programs_are_compared(files: Files, tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(64, 2, 96, 0.0, batch_first=True).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sta.compile(layer, {"src": torch.randn(1, 24, 64)}, target="sta-small").save(tmp_path / "dense.sta")
    command = ["report", str(files.program), str(tmp_path / "dense.sta"), "-o", str(tmp_path / "r.html")]
    assert main(command) == 0
    data, dense = embedded(tmp_path / "r.html"), sta.load(tmp_path / "dense.sta")
    assert data["title"] == "layer.sta"
    assert (data["other"]["title"], data["other"]["target"]) == ("dense.sta", "sta-small")
    assert data["other"]["run"]["cycles"] == dense.cycles > data["run"]["cycles"]
    assert data["other"]["run"]["profile"] == dense.profile().to_json()


def diff_file(path: Path) -> Path:
    """Writes the output of `sta diff --json`, of two operations, to a file."""
    figures = {"decibels": 41.5, "largest": 0.1}
    row = {"module": "linear1", "operation": "nm.linear", "float_operation": "aten.linear", "shape": [1]}
    rows = [{**row, "isolated": figures, "accumulated": {**figures, "decibels": None}}, {**row, "module": "norm1"}]
    rows[1] |= {"isolated": figures, "accumulated": figures}
    path.write_text(json.dumps({"samples": 1, "operations": rows, "not_compared": []}))
    return path


def test_operations_of_a_comparison_are_shown(files: Files, tmp_path: Path) -> None:
    diff = diff_file(tmp_path / "diff.json")
    assert main(["report", str(files.program), "--diff", str(diff), "-o", str(tmp_path / "r.html")]) == 0
    rows = embedded(tmp_path / "r.html")["accuracy"]["diff"]
    assert [(row["module"], row["isolated"]["decibels"], row["accumulated"]["decibels"]) for row in rows] == [
        ("linear1", 41.5, None),
        ("norm1", 41.5, 41.5),
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"operations": [{}]}', '{"operations": 3}'])
def test_a_file_that_is_no_comparison(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, text: str
) -> None:
    (tmp_path / "diff.json").write_text(text)
    command = ["report", str(files.program), "--diff", str(tmp_path / "diff.json"), "-o", str(tmp_path / "r.html")]
    assert main(command) == 1
    assert "diff.json: not the output of `sta diff --json`" in capsys.readouterr().err


@needs_browser
def test_the_keyboard_and_links(browser: Browser, files: Files, tmp_path: Path) -> None:
    command = ["report", str(files.program), str(files.program), "--diff", str(diff_file(tmp_path / "diff.json"))]
    assert main([*command, "-o", str(tmp_path / "r.html")]) == 0
    page, errors = show(browser, tmp_path / "r.html")
    page.focus("#layers tr[data-module=linear1]")
    page.keyboard.press("Enter")
    assert page.inner_text("#selection span") == "linear1"
    assert page.url.endswith("?module=linear1")
    assert page.get_attribute("nav a[data-section=ir]", "href") == "#ir?module=linear1"
    # A link that somebody else opens shows the same.
    other = browser.new_page(viewport={"width": 1280, "height": 900})
    other.goto((tmp_path / "r.html").as_uri() + "#ir?module=norm1")
    other.wait_for_selector(READY, timeout=60 * SECONDS)
    assert other.inner_text("#selection span") == "norm1"
    assert other.evaluate("Math.abs(document.querySelector('#ir').getBoundingClientRect().top) < 200")
    other.close()
    page.keyboard.press("Escape")
    assert page.is_hidden("#selection")
    page.keyboard.press("/")
    page.keyboard.type("nothing")
    assert page.input_value("#search") == "nothing"
    for place in ("#layers tbody", "#weights .weights", "#code .code"):
        assert page.text_content(place) == "No module's path matches."
    page.fill("#search", "")
    # A click leads to the row of the module, and one on an instruction to the timeline.
    page.click("#accuracy tbody tr:has-text('linear1')")
    assert page.evaluate(
        "(r => r.top > 0 && r.bottom < innerHeight)(document.querySelector('tr.chosen').getBoundingClientRect())"
    )
    container = sta.load(files.program).container
    path = container.module_path
    page.click(f"#pc{next(pc for pc, one in enumerate(container.code) if one.name == 'mm' and path(pc) == 'linear1')}")
    page.wait_for_function(
        "(r => r.bottom > 0 && r.top < innerHeight)(document.querySelector('#timeline').getBoundingClientRect())"
    )
    assert page.inner_text("#comparison tbody tr:first-child td:last-child") == "+0.0 %"
    assert errors == []
    page.close()


@needs_browser
def test_the_dark_page_is_dark(browser: Browser, files: Files) -> None:
    page, errors = show(browser, files.report)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (light, dark)]
    assert brightness[0] > 600 > 120 > brightness[1]
    page.emulate_media(color_scheme="light")
    assert errors == []
    page.close()

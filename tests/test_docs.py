"""What the documents say is so: links, commands, the nav of the site, and the examples, which run on made-up data."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from clips import write_video
from command_line import run
from PIL import Image

from detector import load_model
from detector.cli import COMMANDS, load_command
from detector.types import Detections, GroundTruth

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
LINKING = [*PAGES, README, ROOT / "SECURITY.md", ROOT / "detector" / "models" / "default" / "README.md"]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
GENERATED = {"reference/commands.md"}  # by tools/docs_site.py


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


WITH_SCRIPTS = [page for page in (*PAGES, README) if blocks(page, "sh")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        text = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()))
    return found


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)\b(?=`|\s+#)", README.read_text("utf-8")))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_layout_is_as_told() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?/`(?:, `.*?/`)*) \|", contributing, re.MULTILINE)
    folders = [folder for row in rows for folder in re.findall(r"`(.*?)/`", row)]
    assert len(folders) >= 8
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_the_nav_has_every_page_once() -> None:
    def pages(entries: list[Any]) -> list[str]:
        found = []
        for entry in entries:
            value = next(iter(entry.values())) if isinstance(entry, dict) else entry
            found += pages(value) if isinstance(value, list) else [value]
        return found

    nav = pages(SITE["nav"])
    left_out = {line.strip("/") for line in SITE["not_in_nav"].split()}
    there = {page.relative_to(DOCS).as_posix() for page in PAGES} | GENERATED
    assert sorted(nav) == sorted(there - left_out)


def test_images_are_small_and_used() -> None:
    used = {Path(name).name for page in LINKING for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", prose(page))}
    assert {path.name for path in (DOCS / "images").iterdir()} == used
    assert all(path.stat().st_size < 200_000 for path in (DOCS / "images").iterdir())


@pytest.mark.parametrize("page", [page for page in PAGES if "::: " in prose(page)], ids=name_of)
def test_the_reference_names_modules_that_are_there(page: Path) -> None:
    for name, members in re.findall(r"^::: ([\w.]+)(?:\n    options: \{members: \[([^]]*)\]\})?", prose(page), re.M):
        module = importlib.import_module(name)
        assert module.__doc__
        assert all(hasattr(module, member) for member in members.split(", ") if member)


def test_the_page_of_the_commands_has_every_option() -> None:
    text = load_tool("docs_site").commands_page()
    sections = dict(zip(COMMANDS, re.split(r"^## .*$", text, flags=re.MULTILINE)[1:], strict=True))
    for verb, section in sections.items():
        for param in load_command(verb).params:
            if param.param_type_name == "option" and param.name != "help":
                assert all(f"`{name}`" in section for name in param.opts), verb
        assert "<date>" not in section, "a browser takes it for a tag"
    assert "`fail` or `skip`" in sections["detect"]
    assert "[bold]" not in text


def test_links_that_leave_the_docs_lead_into_the_site() -> None:
    class Page:
        class file:
            src_uri, abs_src_path = "results/speed.md", str(DOCS / "results" / "speed.md")

    given = "[a](../../benchmarks/pipeline.md) [b](../concepts.md#what-map-is) [c](https://example.org/a.md) [d](#e)"
    found = load_tool("docs_site").on_page_markdown(given, Page, None, None)
    assert found == given.replace("../../benchmarks/", "../repository/benchmarks/")


def commands(script: str) -> list[list[str]]:
    """The words of each command line of ours in a shell script."""
    found = re.findall(r"(?:^|(?<=[|;&]))\s*detector ([^|;&\n]*)", script.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def assert_commands_exist(lines: list[list[str]]) -> None:
    for verb, *words in lines:
        if verb in ("--help", "--version"):
            continue
        assert verb in COMMANDS
        known = {name for param in load_command(verb).params for name in (*param.opts, *param.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, verb


@pytest.mark.parametrize("page", WITH_SCRIPTS, ids=name_of)
def test_commands_in_shell_scripts_exist(page: Path) -> None:
    lines = [line for script in blocks(page, "sh") for line in commands(script)]
    assert len(lines) >= sum(script.startswith("detector ") for script in blocks(page, "sh"))
    assert_commands_exist(lines)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
@pytest.mark.parametrize("page", WITH_SCRIPTS, ids=name_of)
def test_shell_scripts_are_shell(page: Path) -> None:
    for script in blocks(page, "sh"):
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""


def test_the_kubernetes_job_runs_each_shard_once() -> None:
    (text,) = (text for page in PAGES for text in blocks(page, "yaml") if "kind: Job" in text)
    spec = yaml.safe_load(text)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert int(variables["SHARDS"]) == spec["completions"]
    script = container["command"][-1]
    (line,) = commands(script)
    assert_commands_exist([line])
    assert line[line.index("--shard") + 1] == "$i/$SHARDS"
    assert "i=$((JOB_COMPLETION_INDEX + 1))" in script, "Kubernetes counts from 0, shards from 1"


TYPES = """
reveal_type(model)
reveal_type(detections)
reveal_type(model([image, "cat.jpg"]))
reveal_type(model.predict(["cat.jpg"]))
"""


@pytest.mark.slow
def test_the_examples_of_the_readme_have_types(tmp_path: Path) -> None:
    from mypy import api

    (tmp_path / "example.py").write_text("".join([*blocks(README, "python"), TYPES]))
    where = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)]
    said, trouble, code = api.run([*where, str(tmp_path / "example.py")])
    assert (trouble, code) == ("", 0), said
    assert re.findall(r'Revealed type is "([^"]*)"', said) == [
        "detector.detection.pipeline.Detector",
        "detector.types.Detections",
        "list[detector.types.Detections]",
        "typing.Iterator[detector.types.Detections]",
    ]


# --- Examples in Python. Each page's blocks run one after another in one namespace, in a folder that `prepare` fills.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a photograph, a labelled set with two splits, and a model (the bundled one)."""
    monkeypatch.chdir(tmp_path)
    load_tool("sample_photos").make_photos(tmp_path / "photos", 2, 2)
    shutil.copy(tmp_path / "photos" / "val" / "collage-000.jpg", tmp_path / "photo.jpg")
    shutil.copytree(ROOT / "detector" / "models" / "default", tmp_path / "my-model")
    return tmp_path


def run_blocks(page: str, names: dict[str, Any] | None = None, first: int = 0) -> dict[str, Any]:
    """What the Python blocks of ``page`` leave behind, from block ``first`` on."""
    names = {} if names is None else names
    for number, block in enumerate(blocks(DOCS / page, "python")[first:], first):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


RUN_HERE = {f"how_to/{name}.md" for name in ("add_backbone", "add_data_format", "add_metric", "add_proposal_source")}
RUN_HERE |= {f"how_to/{name}.md" for name in ("deploy", "detect", "onnx", "other_tools", "report", "threshold")}


def test_every_example_of_a_how_to_runs_here() -> None:
    assert {f"how_to/{page.name}" for page in (DOCS / "how_to").glob("*.md") if blocks(page, "python")} == RUN_HERE


def test_a_backbone(place: Path) -> None:
    import torch

    from detector.crop import CropConfig
    from detector.detection.ensemble import Ensemble
    from detector.detection.member import Member
    from detector.nets.region_head import HeadShape, RegionHead
    from detector.nets.weights import Normalization

    made = run_blocks("how_to/add_backbone.md")
    assert isinstance(made["detections"], Detections)
    net = made["net"]
    with torch.inference_mode():
        assert net.trunk(torch.zeros(2, 3, 64, 64)).shape == (2, net.num_features, 2, 2)
    head = RegionHead(HeadShape(kind="softmax", grid=2), 2, net.num_features)
    ensemble = Ensemble([Member(net, CropConfig(size=64), Normalization(), head)], torch.device("cpu"))
    found = ensemble.predict(np.zeros((20, 30, 3), np.uint8), np.array([[0, 0, 20, 10]], np.float32))
    assert found.boxes is not None
    assert found.boxes.shape == (1, 2, 4)


def test_a_proposal_source(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run_blocks("how_to/add_proposal_source.md")
    assert isinstance(made["detections"], Detections)
    boxes = made["Grid"](sides=(10,)).propose(np.zeros((20, 25, 3), np.uint8)).boxes
    assert boxes.tolist()[:2] == [[0, 0, 10, 10], [5, 0, 15, 10]]
    assert len(boxes) == 3 * 4
    assert len(made["Grid"]().propose(np.zeros((20, 25, 3), np.uint8))) == 0
    least, most = map(float, capsys.readouterr().out.strip("[]\n").split())
    assert 0 <= least <= most <= 1


def test_a_data_format(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from detector.data import load

    monkeypatch.setattr(load, "_FORMATS", load._FORMATS)
    (place / "csv_boxes.py").write_text(blocks(DOCS / "how_to/add_data_format.md", "python")[0])
    monkeypatch.syspath_prepend(place)
    (place / "tables").mkdir()
    Image.new("RGB", (20, 10)).save(place / "tables" / "a.png")
    rows = ["a.png,1,2,5,6,cat", "a.png,3,4,9,8,dog", "a.png,7,2,5,6,cat", "a.png,1,2,cat", "b.png,1,2,5,6,cat"]
    (place / "tables" / "boxes.csv").write_text("\n".join(rows))
    dataset = run_blocks("how_to/add_data_format.md", first=1)["dataset"]
    monkeypatch.delitem(sys.modules, "csv_boxes")
    assert dataset.class_names == ("cat", "dog")
    assert dataset[0].ground_truth.boxes.tolist() == [[1, 2, 5, 6], [3, 4, 9, 8]]
    assert sorted(fault.kind for fault in dataset.faults) == ["bad-object", "inverted-box", "unreadable-image"]
    assert "1 images" in capsys.readouterr().out


def test_a_metric(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (50, 50)
    truth = {"a": GroundTruth.of(np.array([[0, 0, 20, 20], [30, 30, 50, 50]], np.float32), np.array([0, 1]))}
    # A small box in the middle, a second one on the same object, and one beside the other class's object.
    boxes = np.array([[8, 8, 12, 12], [9, 9, 13, 13], [0, 30, 10, 40]], np.float32)
    found = Detections.sorted(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1]), size)
    result = run_blocks("how_to/add_metric.md", {"detections": {"a": found}, "truth": truth})["result"]
    assert [row.ap for row in result.classes] == [1.0, 0.0]
    assert result.classes[0].false_positives == 1
    assert result.mean_ap == 0.5
    assert "3 detections, 3 counted" in capsys.readouterr().out


def test_a_stream(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    clip = write_video(place / "clip.avi", "MJPG", frames=2)
    opened = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened(str(clip)) if source == 0 else None)
    assert isinstance(run_blocks("how_to/detect.md")["detections"], Detections)


def test_a_deployed_model(place: Path) -> None:
    made = run_blocks("how_to/deploy.md")
    assert [row["bbox"][0] for row in made["rows"]] == pytest.approx(made["detections"].boxes[:, 0].tolist())


@pytest.mark.slow
def test_other_tools(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = place / "photos" / "val" / "collage-001.jpg"
    shutil.copyfile(second, place / "photo.jpg")  # the bundled model finds nothing in the first
    made = run_blocks("how_to/other_tools.md")
    found = made["detections"]
    assert [len(made["several"]), len(made["paths"])] == [2, 2]
    assert made["back"].boxes.tolist() == found.boxes.tolist()
    assert 0 < len(found) == len(made["table"].loc["photos/val/collage-001.jpg"]) == len(made["rows"])
    assert "photo.jpg" not in found._repr_html_()
    assert "data:image/jpeg;base64," in found._repr_html_()
    assert "mean" in capsys.readouterr().out


def test_fiftyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in: FiftyOne brings a database server."""

    class Dataset(list[Any]):
        add_sample = list.append

    parts = ("Detection", "Detections", "Sample")
    fake = SimpleNamespace(Dataset=Dataset, launch_app=lambda dataset: None, **dict.fromkeys(parts, dict))
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    monkeypatch.chdir(tmp_path)
    found = {"box": [10, 5, 60, 30], "score": 0.5, "class_name": "cat"}
    line = {"path": "a.jpg", "width": 100, "height": 50, "detections": [found]}
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "detections.jsonl").write_text(json.dumps(line) + "\n")
    (block,) = blocks(DOCS / "how_to" / "other_tools.md", "py")
    names: dict[str, Any] = {}
    exec(block, names)
    (sample,) = names["dataset"]
    assert sample["filepath"] == "a.jpg"
    (found,) = sample["detections"]["detections"]
    assert found == {"label": "cat", "bounding_box": [0.1, 0.1, 0.5, 0.5], "confidence": 0.5}


@pytest.mark.slow
def test_an_exported_model(place: Path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install googlenet-detector[onnx]")
    assert run("export", "my-model", "--out", "my-model-onnx") == 0
    made = run_blocks("how_to/onnx.md")
    assert made["probs"].shape == (2, 21)
    whole = load_model("my-model", device="cpu").classifier.predict(made["image"], made["boxes"] / made["factor"])
    np.testing.assert_allclose(made["probs"], whole.probs, atol=0.02)  # boxes by one factor for both sides


def write_evaluation(folder: Path) -> None:
    from example_report import example_evaluation

    example_evaluation(folder / "pictures", n_images=4).save(folder)


def test_a_threshold(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_evaluation(place / "measured")
    result = run_blocks("how_to/threshold.md")["result"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(result.classes)
    for line, row in zip(lines, result.classes, strict=True):
        if not line.endswith("never that precise"):
            threshold = float(line.split()[-1])
            kept = row.scores >= threshold - 0.005
            assert row.precision[kept][-1] >= 0.9


def test_a_report_from_python(place: Path) -> None:
    (name,) = re.findall(r'Path\("(runs/[^"]*)/evaluation.json"\)', blocks(DOCS / "how_to/report.md", "python")[0])
    write_evaluation(place / name)
    image = np.zeros((40, 60, 3), np.uint8)
    names = {"image": image, "detections": Detections.empty((40, 60)), "class_names": ("cat",)}
    made = run_blocks("how_to/report.md", names)
    assert (place / "out" / "report.html").stat().st_size > 10_000
    assert max(made["picture"].shape[:2]) == 640


# --- The tutorial

# Commands that only install, which tests/test_environment.py looks after.
INSTALLS = {"python -m venv .venv", "source .venv/bin/activate", "pip install -e ."}
# So that the test is short; everything else runs as it stands.
SHORTER = {
    "sample_photos.py photos/": "sample_photos.py photos/ --train 3 --val 2",
    "--minutes 10": "--recipe shared --steps 1",
}


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "tutorial.md"
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert set(lines) >= INSTALLS
    used: set[str] = set()
    for line in lines:
        if line in INSTALLS:
            continue
        for long, short in SHORTER.items():
            if long in line:
                line, used = line.replace(long, short), used | {long}
        program, *arguments = shlex.split(line)
        if program == "detector":
            assert run(*arguments) == 0, line
        else:
            command = [sys.executable, str(ROOT / arguments[0]), *arguments[1:]]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert used == SHORTER.keys()
    run_blocks("tutorial.md")
    for made in ("my-model/model.yaml", "my-model/crops.png", "my-model/curves.png", "found/detections.jsonl"):
        assert (tmp_path / made).is_file(), made
    assert (tmp_path / "measured" / "report.html").is_file()
    assert list((tmp_path / "found" / "pictures").rglob("*.jpg"))
    assert list((tmp_path / "checked").glob("sheet-*.jpg"))

"""``detector doctor``: a sound installation passes, and each fault is found."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from detector.commands import doctor
from detector.commands.doctor import FAULT, NOTE, OK, Finding


def test_a_sound_installation(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without_model = tuple(check for check in doctor.CHECKS if check is not doctor.check_bundled_model)
    monkeypatch.setattr(doctor, "CHECKS", without_model)
    done = run_cli("doctor")
    assert done.code == 0, done.out
    assert done.out.splitlines()[-1] == "everything works"
    for subject in ("Python", "detector", "OpenCV", "GPU", "compiled kernels"):
        assert f"  {subject}: " in done.out


def test_a_check_that_breaks_is_a_fault_and_the_others_go_on(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_the_sky() -> Any:
        raise OSError("it fell\ndown")
        yield

    def check_the_earth() -> Any:
        yield Finding(OK, "the earth", "stands")

    monkeypatch.setattr(doctor, "CHECKS", (check_the_sky, check_the_earth))
    done = run_cli("doctor")
    assert done.code == 1
    assert done.out.splitlines() == ["FAULT  the sky: OSError: it fell down", "ok     the earth: stands", "1 to mend"]


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let only these distributions be installed; ``_`` in a name stands for ``-``."""
    known = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize(
    ("wheels", "status", "words"),
    [
        (["opencv_python"], OK, "from opencv-python"),
        (["opencv_python_headless"], OK, "from opencv-python-headless"),
        ([], FAULT, "not installed: pip install opencv-python"),
        (
            ["opencv_python", "opencv_python_headless"], FAULT,
            "opencv-python, opencv-python-headless are all installed and overwrite each other: pip uninstall",
        ),
    ],
)  # fmt: skip
def test_one_opencv_wheel(monkeypatch: pytest.MonkeyPatch, wheels: list[str], status: str, words: str) -> None:
    installed(monkeypatch, **dict.fromkeys(wheels, "4.10"))
    (finding,) = doctor.check_opencv()
    assert (finding.status, words in finding.text) == (status, True)


def test_versions_against_the_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["torch>=2.14", "numpy>=1.26", "rich>=13", "opencv-python>=4.10", "pytest>=8; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda name: required)
    installed(monkeypatch, torch="2.13.1", numpy="2.4.0")
    findings = {finding.subject: finding for finding in doctor.check_versions()}
    assert findings["torch"] == Finding(FAULT, "torch", '2.13.1 is too old: pip install -U "torch>=2.14"')
    assert findings["numpy"] == Finding(OK, "numpy", "2.4.0")
    assert findings["rich"] == Finding(FAULT, "rich", 'not installed: pip install "rich>=13"')
    assert findings.keys() == {"torch", "numpy", "rich"}, "extras are not required, and OpenCV has a check of its own"


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    (finding,) = doctor.check_versions()
    assert finding.status == NOTE


def test_no_gpu_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (finding,) = doctor.check_gpu()
    assert finding.status == NOTE
    assert "the processor is used" in finding.text


@pytest.mark.gpu
def test_the_gpu_is_named() -> None:
    import torch

    findings = list(doctor.check_gpu())
    assert [finding.status for finding in findings] == [OK] * torch.cuda.device_count()
    assert torch.cuda.get_device_name(0) in findings[0].text


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model directory in the bundled one's place."""
    from detector.crop import CropConfig
    from detector.model.save import save_model
    from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
    from detector.nets.region_net import SharedMaps, sizes_by_level
    from detector.nets.weights import Normalization
    from proposals.multibox import MultiBoxConfig, MultiBoxHead

    config = GoogLeNetConfig(num_outputs=2, width=0.125, stem="stride4", aux=False)
    nets = [(config, GoogLeNet(config).state_dict(), CropConfig(size=32, context_pad=4), Normalization())]
    folder = tmp_path / "models" / "default"
    boxes = MultiBoxConfig(channels=8, count=4)
    head = MultiBoxHead(config.inception("4e").out, sizes_by_level(boxes, SharedMaps()), boxes)
    facts: dict[str, Any] = {"name": "tiny", "class_names": ("cat",), "class_keys": ("n1",), "licence": "MIT"}
    save_model(folder, nets, multibox=head, **facts)
    monkeypatch.setattr("detector.model.config.BUNDLED_MODEL", folder)
    return folder


def flipped(whole: bytes) -> bytes:
    return whole[:-1] + bytes([whole[-1] ^ 1])


@pytest.mark.parametrize("damage", [None, flipped, lambda whole: whole[: len(whole) // 2]])
def test_the_weights_of_the_bundled_model(bundled: Path, damage: Any) -> None:
    files = sorted(bundled.glob("*.safetensors"))
    assert len(files) == 2
    for weights in files:
        whole = weights.read_bytes()
        weights.write_bytes(damage(whole) if damage else whole)
        (finding,) = doctor.check_bundled_model()
        weights.write_bytes(whole)
        words = (weights.name, "install the toolkit again") if damage else ("1 network, checksums agree",)
        assert finding.status == (FAULT if damage else OK)
        assert all(word in finding.text for word in words)


def test_no_bundled_model(bundled: Path) -> None:
    for path in bundled.iterdir():
        path.unlink()
    (finding,) = doctor.check_bundled_model()
    assert finding.status == FAULT

"""``detector doctor``: is this installation whole? Every check is one line; a fault says how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import typer

from detector.commands.console import FAILED, tell

DISTRIBUTION = "googlenet-detector"
OK, NOTE, FAULT = "ok", "note", "FAULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        status: "ok"; "note": works, but worth knowing; "FAULT": does not work. subject: what was looked at.
        text: what was found, and for a note or a fault the remedy.
    """

    status: str
    subject: str
    text: str


def doctor() -> None:
    """Check this installation and say what to mend.

    Versions, the OpenCV build, the compiled kernels, the GPU, the bundled
    model's checksums, and what killed runs have left in the current folder
    ([bold]detector clean[/bold] removes it). The exit code is 1 if anything is at fault.

    [bold]Example:[/bold] detector doctor
    """
    findings: list[Finding] = []
    for check in CHECKS:
        for finding in _findings_of(check):
            findings.append(finding)
            tell(f"{finding.status:5}  {finding.subject}: {finding.text}")
    faults = sum(finding.status == FAULT for finding in findings)
    tell("everything works" if not faults else f"{faults} to mend")
    raise typer.Exit(FAILED if faults else 0)


def _findings_of(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What ``check`` finds; a check that breaks is a fault of the installation, not the end of the examination."""
    try:
        yield from check()
    except Exception as error:
        text = " ".join(str(error).split())
        yield Finding(FAULT, check.__name__.removeprefix("check_").replace("_", " "), f"{type(error).__name__}: {text}")


def check_python() -> Iterator[Finding]:
    """The interpreter and the toolkit itself."""
    import platform

    import detector

    yield Finding(OK, "Python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")
    yield Finding(OK, "detector", f"{detector.__version__} at {Path(detector.__file__).parent}")


def check_versions() -> Iterator[Finding]:
    """Each distribution that the toolkit requires, against the range that it was made for."""
    from packaging.requirements import Requirement

    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(NOTE, "versions", "the toolkit is not installed, so nothing to compare with: pip install -e .")
        return
    for requirement in (Requirement(line) for line in required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement.name != "opencv-python":  # another wheel may stand in for it; see check_opencv
                yield Finding(FAULT, requirement.name, f'not installed: pip install "{requirement}"')
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding(OK, requirement.name, version)
        else:
            yield Finding(FAULT, requirement.name, f'{version} is too old: pip install -U "{requirement}"')


def check_opencv() -> Iterator[Finding]:
    """One OpenCV wheel, not several (they overwrite each other's files), and one that loads."""
    from detector.runs.folder import OPENCV_WHEELS, installed_versions

    installed = [name for name in installed_versions() if name in OPENCV_WHEELS]
    if not installed:
        yield Finding(FAULT, "OpenCV", "not installed: pip install opencv-python")
        return
    if len(installed) > 1:
        yield Finding(
            FAULT,
            "OpenCV",
            f"{', '.join(installed)} are all installed and overwrite each other: "
            f"pip uninstall -y {' '.join(installed)} && pip install {installed[0]}",
        )
        return
    try:
        import cv2
    except ImportError as error:
        yield Finding(
            FAULT,
            "OpenCV",
            f"cannot be loaded ({error}): pip uninstall -y {installed[0]} && pip install opencv-python-headless",
        )
        return
    yield Finding(OK, "OpenCV", f"{cv2.__version__} from {installed[0]}")


def check_gpu() -> Iterator[Finding]:
    """The GPUs that PyTorch can use; none is no fault."""
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as heard:  # an old driver is told of in a warning
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if available:
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            yield Finding(OK, "GPU", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
        return
    reason = " ".join(str(heard[0].message).split()) if heard else "none found"
    yield Finding(NOTE, "GPU", f"{reason}; the processor is used, with {torch.get_num_threads()} threads")


def check_compiled_kernels() -> Iterator[Finding]:
    """The hot loops of selective search: where Numba cannot keep them, every run compiles them again."""
    import numpy as np
    from numba.core.dispatcher import Dispatcher

    from proposals.selective_search import selective_search

    selective_search(np.zeros((32, 32, 3), np.uint8))  # compiles the kernels, or reads them from the cache
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("proposals.")]
    kernels = {id(value): value for module in modules for value in vars(module).values()}.values()
    stats = [kernel.stats for kernel in kernels if isinstance(kernel, Dispatcher)]
    from_cache = sum(bool(each.cache_hits) for each in stats)
    folders = " and ".join(sorted({each.cache_path for each in stats if each.cache_path}))
    if not folders:
        text = "there is no folder to keep them in, so every run compiles them: set NUMBA_CACHE_DIR to a writable one"
        yield Finding(NOTE, "compiled kernels", text)
    else:
        yield Finding(OK, "compiled kernels", f"{len(stats)}, of which {from_cache} came from the cache in {folders}")


def check_bundled_model() -> Iterator[Finding]:
    """The bundled models: each file of weights against the checksum and the architecture in ``model.yaml``."""
    from detector.model.config import BUNDLED_MODEL, read_model_config
    from detector.model.load import read_member, read_multibox
    from proposals.errors import UserError

    folders = sorted({BUNDLED_MODEL, *(path.parent for path in BUNDLED_MODEL.parent.glob("*/model.yaml"))})
    for folder in folders:
        subject = f"bundled model {folder.name}"
        try:
            config = read_model_config(folder)
            for member in config.members:
                read_member(folder, member, len(config.class_names))
            if config.multibox is not None:
                read_multibox(folder, config.multibox)
        except UserError as fault:
            yield Finding(FAULT, subject, f"{fault}: install the toolkit again")
        else:
            count = len(config.members)
            yield Finding(OK, subject, f"{count} network{'s' * (count > 1)}, checksums agree, {folder}")


def check_leftovers() -> Iterator[Finding]:
    """What killed and failed runs have left in the current folder and the folders in it."""
    from detector.commands.clean import in_words
    from detector.runs.leftovers import find_leftovers

    leftovers = [leftover for leftover in find_leftovers(Path()) if not leftover.alive]
    for leftover in leftovers:
        yield Finding(NOTE, "leftover", f"{in_words(leftover)}: detector clean removes it")
    if not leftovers:
        yield Finding(OK, "leftovers", "no unfinished runs in the current folder")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_versions,
    check_opencv,
    check_gpu,
    check_compiled_kernels,
    check_bundled_model,
    check_leftovers,
)

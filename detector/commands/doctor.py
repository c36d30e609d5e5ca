"""``detector doctor``: is this installation whole? Every check is one line; a fault says how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import typer

from detector.commands.console import FAILED, print_line

DISTRIBUTION = "googlenet-detector"
OK, NOTE, FAULT = "ok", "note", "FAULT"


class Finding(NamedTuple):
    """One line of the report: OK, NOTE (works, but worth knowing) or FAULT; of what; what was found, and the remedy."""

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
    faults = 0
    for check in CHECKS:
        for status, subject, text in _findings_of(check):
            print_line(f"{status:5}  {subject}: {text}")
            faults += status == FAULT
    print_line("everything works" if not faults else f"{faults} to mend")
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
    status, text = FAULT, "not installed: pip install opencv-python"
    if len(installed) > 1:
        text = (
            f"{', '.join(installed)} are all installed and overwrite each other: "
            f"pip uninstall -y {' '.join(installed)} && pip install {installed[0]}"
        )
    elif installed:
        try:
            import cv2

            status, text = OK, f"{cv2.__version__} from {installed[0]}"
        except ImportError as error:
            remedy = f"pip uninstall -y {installed[0]} && pip install opencv-python-headless"
            text = f"cannot be loaded ({error}): {remedy}"
    yield Finding(status, "OpenCV", text)


def check_gpu() -> Iterator[Finding]:
    """The GPUs that PyTorch can use; none is no fault."""
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as heard:  # an old driver is told of in a warning
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        facts = torch.cuda.get_device_properties(number)
        yield Finding(OK, "GPU", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    if not count:
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
    text = f"{len(stats)}, of which {from_cache} came from the cache in {folders}"
    if not folders:
        text = "there is no folder to keep them in, so every run compiles them: set NUMBA_CACHE_DIR to a writable one"
    yield Finding(OK if folders else NOTE, "compiled kernels", text)


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

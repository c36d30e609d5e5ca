"""``detector export``: a model's networks as files that run without this toolkit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from detector.commands.console import print_line
from detector.commands.options import results_option


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Model directory, or bundled for the one that comes with the toolkit."),
    ],
    kind: Annotated[
        Literal["onnx", "openvino", "torchscript"], typer.Option("--format", help="Format of the graphs.")
    ] = "onnx",
    out: Annotated[Path | None, results_option("export")] = None,
) -> None:
    """Write a model's networks as ONNX, OpenVINO or TorchScript.

    The result is a copy of the model directory with the graphs beside the weights, and
    [bold]graphs.json[/bold], which says what each takes and gives. [bold]detect --runtime[/bold] runs ONNX
    and OpenVINO graphs as well. Proposals are not in the graphs.

    [bold]Example:[/bold] detector export my-model --format onnx --out my-model-onnx
    """
    from detector.model.config import named_folder, read_model_config
    from detector.model.export import export_model
    from detector.runs.folder import final_path, new_run_folder, refuse_occupied

    refuse_occupied(out)
    source = named_folder(model)
    config = read_model_config(source)
    with new_run_folder(out, "export", {"model": source.resolve(), "format": kind}) as folder:
        files = export_model(source, config, kind, folder)
    final = out or final_path(folder)
    for file in files:
        print_line(f"{final / file.name}")
    print_line(f"try it: detector detect photo.jpg --model {final}")

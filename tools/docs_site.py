"""What the docs site has beside its pages (a hook of MkDocs): the commands, and files of the repository.

The reference of the commands is made from the commands themselves. Pages link to files outside ``docs``, as
``../configs/voc.yaml``; these become part of the site, below ``repository/``, and the links lead there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COMMANDS_PAGE = "reference/commands.md"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the commands and what the pages link to."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, COMMANDS_PAGE, content=commands_page()))
    waiting = [DOCS / file.src_uri for file in files.documentation_pages() if file.abs_src_path]
    found: set[Path] = set()
    while waiting:
        page = waiting.pop()
        for target in linked_files(page):
            if target not in found and not target.is_relative_to(DOCS) and target.is_file():
                found.add(target)
                waiting += [target] if target.suffix == ".md" else []
    for target in sorted(found):
        files.append(File.generated(config, site_path(target), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page that leave its folder to where the files are in the site."""
    source = Path(page.file.abs_src_path or DOCS / page.file.src_uri)
    here = Path(page.file.src_uri).parent

    def lead(match: re.Match[str]) -> str:
        target = (source.parent / match[1]).resolve()
        if source.is_relative_to(DOCS) and target.is_relative_to(DOCS):
            return match[0]
        return Path(os.path.relpath(site_path(target), here)).as_posix() if target.is_file() else match[0]

    return LINK.sub(lead, markdown)


def linked_files(page: Path) -> Iterator[Path]:
    """The files that the links of ``page`` name, absolute; they may not exist."""
    for name in LINK.findall(page.read_text(encoding="utf-8")):
        yield (page.parent / name).resolve()


def site_path(file: Path) -> str:
    """Where a file of the repository is in the site."""
    return (file.relative_to(DOCS) if file.is_relative_to(DOCS) else "repository" / file.relative_to(ROOT)).as_posix()


def commands_page() -> str:
    """All verbs with their arguments and options, as Markdown."""
    sys.path.insert(0, str(ROOT))
    from detector.cli import COMMANDS, function_of, load_command

    parts = ["# Commands", "As `detector VERB --help` shows them."]
    for verb in COMMANDS:
        parts += [f"## {verb}", *verb_parts(verb, load_command(verb), get_type_hints(function_of(verb)))]
    return "\n\n".join(parts) + "\n"


def verb_parts(verb: str, command: Any, types: dict[str, Any]) -> Iterator[str]:
    """The paragraphs of one verb; ``types`` are those of its parameters by name."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and param.name in types]
    usage = " ".join(
        ["detector", verb, *(str(param.metavar or param.name.upper()) for param in arguments), "[OPTIONS]"]
    )
    yield f"```\n{usage}\n```"
    yield from (plain(paragraph) for paragraph in (command.help or "").split("\n\n"))
    rows = [(f"`{param.metavar or param.name.upper()}`", param) for param in arguments]
    for param in options:
        names = " ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
        rows.append((names if param.is_flag else f"{names} {value_of(param.metavar, types[param.name])}", param))
    lines = ["| option | what it does | default |", "|---|---|---|"]
    lines += [f"| {name} | {plain(param.help or '')} | {default_of(param)} |" for name, param in rows]
    yield "\n".join(lines)


def value_of(metavar: str | None, annotation: Any) -> str:
    """What stands for an option's value: its placeholder, its choices or its type."""
    if metavar:
        return plain(metavar)
    kinds = [annotation, *get_args(annotation), *(inner for kind in get_args(annotation) for inner in get_args(kind))]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return " or ".join(f"`{choice.value}`" for choice in kind)
        if get_origin(kind) is Literal:
            return " or ".join(f"`{choice}`" for choice in get_args(kind))
    names = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return next((names[kind] for kind in kinds if kind in names), "TEXT")


def default_of(param: Any) -> str:
    """What an option is where it is not given."""
    if isinstance(param.show_default, str):
        return plain(param.show_default)
    if param.required:
        return "required"
    value = getattr(param.default, "value", param.default)
    return "" if value is None or value is False else f"`{value}`"


def plain(text: str) -> str:
    """Help text as Markdown: one line, rich's marks as bold, placeholders as they are."""
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"**\1**", " ".join(text.split()))
    return text.replace("<", "&lt;").replace("|", "\\|")

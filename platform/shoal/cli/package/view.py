"""How packages are shown: a card for people, a document for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shoal.cli.output import size
from shoal.package.keys import TrustedKeys
from shoal.package.manifest import TensorSpec
from shoal.package.package import Package
from shoal.package.scan import counted
from shoal.package.verify import Verification, signature_of

_MOST_FILES = 20


def as_document(package: Package, model: str, trusted: TrustedKeys) -> dict[str, Any]:
    """The manifest, the place and the evidence."""
    found, wrong = package.evidence(trusted)
    manifest: dict[str, Any] = package.manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "model": model or None,
        "uri": package.store.address(package.folder).uri if package.folder else None,
        **{name: manifest[name] for name in ("digest", "content", "about")},
        "sealed": package.manifest.seal is not None,
        "evidence": {
            name: {
                **item.statement.model_dump(mode="json", by_alias=True),
                "keyid": item.envelope.keyid,
                "signer": item.signer,
            }
            for name, item in sorted(found.items())
        },
        "problems": wrong,
    }


def print_card(package: Package, model: str, trusted: TrustedKeys) -> None:
    """The card."""
    parts: list[RenderableType] = [_facts(package, model), _files(package)]
    if package.content.signature is not None:
        parts.append(_tensors(package))
    parts.append(_evidence(package, trusted))
    Console(highlight=False).print(
        Panel(Group(*parts), title=f"{model or 'package'} {package.digest[:12]}", title_align="left", expand=False)
    )


def print_verification(package: Package, found: Verification) -> None:
    """What a verification found, one line each."""
    console = Console(highlight=False, soft_wrap=True)
    for problem in found.problems:
        console.print(Text.assemble(("✗ ", "red"), problem))
    for remark in found.notes:
        console.print(Text.assemble(("! ", "yellow"), remark))
    if found.sound:
        count = len(package.payload())
        are = "is" if count == 1 else "are"
        signed = f", signed by {found.signed_by}" if found.signed_by else ""
        console.print(
            Text.assemble(
                ("✓ ", "green"), f"{package.digest[:12]}: {counted(count, 'file')} {are} as published{signed}"
            )
        )
        for name, item in sorted(found.evidence.items()):
            mark = ("✓ ", "green") if item.statement.passed else ("! ", "yellow")
            outcome = "passed" if item.statement.passed else "failed"
            console.print(Text.assemble(mark, f"{name}: {outcome}, signed by {item.signer or 'an unknown key'}"))


def _facts(package: Package, model: str) -> RenderableType:
    content, about = package.content, package.about
    rows: dict[str, object] = {
        "digest": package.digest,
        "place": package.store.address(package.folder).uri if model else None,
        "format": f"{content.format} {content.version or ''}".strip(),
        "size": f"{size(content.size)} in {counted(len(content.files), 'file')}",
        "samples": size(content.samples.size) if content.samples else "none",
        "created": about.created.isoformat(timespec="seconds"),
        "owner": about.owner,
        "licence": about.licence,
        "description": about.description,
        **{name.replace("_", " "): value for name, value in about.lineage},
        "metrics": ", ".join(f"{name}={value:g}" for name, value in sorted(about.metrics.items())),
        "environment": ", ".join(f"{name} {version}" for name, version in sorted(about.environment.items())[:12]),
    }
    return _grid({name: str(value) for name, value in rows.items() if value})


def _files(package: Package) -> RenderableType:
    table = Table("file", "size", "sha256", box=None, header_style="dim", padding=(0, 2, 0, 0))
    files = sorted(package.content.files.items())
    for path, file in files[:_MOST_FILES]:
        table.add_row(_plain(path), size(file.size), file.sha256[:12])
    if len(files) > _MOST_FILES:
        table.add_row(f"and {len(files) - _MOST_FILES} more", "", "")
    return table


def _tensors(package: Package) -> RenderableType:
    signature = package.content.signature
    table = Table("tensor", "name", "datatype", "shape", box=None, header_style="dim", padding=(0, 2, 0, 0))
    sides: list[tuple[str, list[TensorSpec]]] = []
    if signature is not None:
        sides = [("input", signature.inputs), ("output", signature.outputs)]
    for side, tensors in sides:
        for tensor in tensors[:_MOST_FILES]:
            table.add_row(side, _plain(tensor.name), tensor.datatype, Text(str(tensor.shape)))
    return table


def _evidence(package: Package, trusted: TrustedKeys) -> RenderableType:
    items, wrong = package.evidence(trusted)
    table = Table("evidence", "result", "signed by", "summary", box=None, header_style="dim", padding=(0, 2, 0, 0))
    signer, why = signature_of(package, trusted)
    table.add_row("signature", Text("signed", "green") if signer else "", signer or "", Text(why))
    for name, item in sorted(items.items()):
        result = Text("passed", "green") if item.statement.passed else Text("failed", "red")
        table.add_row(name, result, item.signer or "an unknown key", _plain(item.statement.summary))
    for problem in wrong:
        table.add_row("", Text("broken", "red"), "", _plain(problem))
    return table


def _plain(text: str) -> Text:
    """Text of others, without what terminals would take for commands."""
    return Text("".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text))


def _grid(rows: dict[str, str]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(Text(name, "dim"), _plain(value))
    return grid

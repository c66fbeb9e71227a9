"""``obj min-btf``: of a kernel's types, those that CO-RE needs for some objects."""

from __future__ import annotations

import os

from bpfctl.btf.types import Btf
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.errors import BpfctlError, BtfError, NotFoundError, errno_text, printable
from bpfctl.inventory import type_sources
from bpfctl.objfile import read_object


@words_command("min-btf", "KERNEL_BTF OUT FILE...")
def min_btf(app: App, words: list[str]) -> None:
    """Write to OUT the types of KERNEL_BTF that the CO-RE relocations of the object files need.

    With OUT in its place, the objects load for that kernel as with all of its BTF.  An OUT that exists is
    replaced.  The running kernel is not asked.
    """
    tokens = Tokens(words)
    kernel_path = tokens.value("KERNEL_BTF")
    out = tokens.value("OUT")
    paths = [tokens.value("FILE")]
    while tokens:
        paths.append(tokens.next())
    kernel = type_sources.of_file(kernel_path).btf
    if kernel.base is not None:
        raise BtfError("split BTF is no kernel's: it continues another", path=kernel_path)
    data = _needed(app, kernel, paths)
    _write(out, data)
    if app.output.json:
        types = len(Btf.from_bytes(data)) - 1
        app.output.record({"path": out, "types": types, "bytes": len(data)}, str)


def _needed(app: App, kernel: Btf, paths: list[str]) -> bytes:
    from bpfctl.btf.core_needs import CoreNeeds
    from bpfctl.btf.writer import subset

    needs = CoreNeeds(kernel)
    for path in paths:
        obj = read_object(path)
        if obj.btf is None or obj.btf_ext is None:
            hint = "compile with -g, and strip with llvm-strip -g"
            raise NotFoundError(f"{printable(path, 4096)} has no BTF, so no CO-RE relocations", hint=hint)
        relocations = list(obj.btf_ext.all_core_relocations())
        if not relocations:
            app.warn(f"{path} has no CO-RE relocations")
        needs.add(obj.btf, relocations)
    return subset(kernel, needs.types)


def _write(path: str, data: bytes) -> None:
    """All of it or nothing: a reader never sees half a file."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise BpfctlError(f"cannot write {printable(path, 4096)}: it exists and is no plain file")
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "xb") as file:
            try:
                file.write(data)
                file.flush()
                os.replace(new, path)
            except BaseException:
                os.unlink(new)
                raise
    except OSError as error:
        what = f"cannot write {printable(path, 4096)}"
        raise BpfctlError(f"{what}: {errno_text(error.errno or 0)}") from error

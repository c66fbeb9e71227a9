"""``obj check``: does an object fit a kernel?"""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.spec import parse_object
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.loader.check import Finding, Fit, check, failure
from bpfctl.objfile import read_object


@words_command("check", "FILE [ maps-abi ABI ] [ btf KERNEL_BTF ]", "maps-abi btf")
def check_(app: App, words: list[str]) -> None:
    """Say what the object FILE asks for and the kernel lacks; exit status 2 if it cannot do without.

    The running kernel is asked, or another one judged by its BTF: KERNEL_BTF is a copy of its
    /sys/kernel/btf/vmlinux.  Nothing is loaded to stay, and with btf no privilege is needed.
    """
    tokens = Tokens(["btf" if word in ("--btf", "-btf") else word for word in words])
    source = parse_object(tokens.value("FILE"), tokens)
    btf_path = tokens.value("KERNEL_BTF") if tokens.take("btf") else None
    tokens.end("maps-abi, btf")
    record = check(read_object(source.path, maps_abi=source.maps_abi), btf_path)
    app.output.record(record, lambda known: "\n".join(_text(known)))
    error = failure(record)
    if error:
        raise error


def _text(record: Fit) -> Iterator[str]:
    yield f"{record.path}: {'fits' if record.fits else 'does not fit'} {record.kernel}"
    for each in record.findings:
        yield from _finding(each)


def _finding(each: Finding) -> Iterator[str]:
    weight = "required" if each.required else "guarded"
    released = f"  since {each.since}" if each.since else ""
    yield f"  {each.status}  {weight}  {each.kind} {each.name}{released}"
    yield f"    {each.reason}"
    if each.program:
        place = f"    in {each.program}"
        place += f", instruction {each.instruction}" if each.instruction is not None else ""
        yield place + (f", {each.source}" if each.source else "")

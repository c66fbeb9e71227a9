"""Documents and code say the same: commands, words, JSON keys, examples."""

from __future__ import annotations

import ast
import errno
import io
import os
import shlex
import shutil
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import manual
import pytest
from click.shell_completion import ShellComplete

import bpfctl.cli
from bpfctl.advise import findings as advise_findings
from bpfctl.bench import compare as bench_compare
from bpfctl.bench import host as bench_host
from bpfctl.bench import maps as bench_maps
from bpfctl.bench import paths as bench_paths
from bpfctl.cli import obj_records
from bpfctl.cli.app import App
from bpfctl.cli.clicked import click_root
from bpfctl.cli.command import Command, Group
from bpfctl.cli.root import ROOT, parse_arguments, run
from bpfctl.cli.version import VersionInfo
from bpfctl.errors import BpfctlError, UsageError
from bpfctl.inventory import counters, features, jited, profile, prog_run, records, variables, xlated
from bpfctl.kernel import syscall
from bpfctl.loader import check, migrate, reuse, verdict

SOURCE = Path(bpfctl.cli.__file__).parent

# module with words in it -> objects whose commands take them
WORDS = {
    "grammar/action.py": ("action",),
    "grammar/filter.py": ("filter",),
    "exec_graft.py": ("exec",),
    "exec_import.py": ("exec",),
    "grammar/encap.py": ("route",),
    "grammar/link.py": ("link",),
    "grammar/nexthop.py": ("nexthop",),
    "grammar/qdisc.py": ("qdisc",),
    "grammar/route.py": ("route",),
    "grammar/spec.py": ("link", "filter", "route"),
    "feature_probe.py": ("feature",),
    "obj_check.py": ("obj",),
    "btf_dump.py": ("btf",),
    "btf_show.py": ("btf",),
    "grammar/element.py": ("map",),
    "map_words.py": ("map",),
    "map_dump.py": ("map",),
    "map_load.py": ("map",),
    "map_save.py": ("map",),
    "map_compare.py": ("map",),
    "map_globals.py": ("map",),
    "map_watch.py": ("map",),
    "map_events.py": ("map",),
    "pace.py": ("map",),
    "grammar/load.py": ("prog",),
    "prog_dump.py": ("prog",),
    "prog_profile.py": ("prog",),
    "prog_run.py": ("prog",),
    "grammar/bench.py": ("bench",),
    "grammar/advise.py": ("advise",),
}
# page and subsection of a key table, and the key that leads to the record; "" for the document itself
RECORDS: list[tuple[str, str, str, type]] = [
    ("bpfctl.8", "bpfctl version", "", VersionInfo),
    ("bpfctl-prog.8", "Programs", "", records.ProgramInfo),
    ("bpfctl-prog.8", "Programs", "pids[].", records.Process),
    ("bpfctl-prog.8", "Verdicts", "", verdict.Verdict),
    ("bpfctl-prog.8", "Code", "", xlated.Instruction),
    ("bpfctl-prog.8", "Machine code", "", jited.MachineFunction),
    ("bpfctl-prog.8", "Machine code", "insns[].", jited.MachineInstruction),
    ("bpfctl-prog.8", "Runs", "", prog_run.Run),
    ("bpfctl-prog.8", "Profiles", "", profile.Profile),
    ("bpfctl-prog.8", "Profiles", "counters[].", counters.CounterRecord),
    ("bpfctl-map.8", "bpfctl map show", "", records.MapInfo),
    ("bpfctl-map.8", "bpfctl map show", "pids[].", records.Process),
    ("bpfctl-map.8", "Migration", "", migrate.Plan),
    ("bpfctl-map.8", "Migration", "differences[].", reuse.Difference),
    ("bpfctl-map.8", "Migration", "members[].", migrate.MemberPlan),
    ("bpfctl-map.8", "bpfctl map globals", "", variables.Variable),
    ("bpfctl-btf.8", "", "", records.BtfInfo),
    ("bpfctl-btf.8", "", "pids[].", records.Process),
    ("bpfctl-obj.8", "", "", obj_records.ObjectRecord),
    ("bpfctl-obj.8", "", "sections[].", obj_records.SectionRecord),
    ("bpfctl-obj.8", "", "programs[].", obj_records.ProgramRecord),
    ("bpfctl-obj.8", "", "maps[].", obj_records.MapRecord),
    ("bpfctl-obj.8", "", "maps[].slots[].", obj_records.SlotRecord),
    ("bpfctl-obj.8", "", "maps[].functions[].", obj_records.FunctionRecord),
    ("bpfctl-obj.8", "", "relocations[].", obj_records.RelocationRecord),
    ("bpfctl-obj.8", "", "externs[].", obj_records.ExternRecord),
    ("bpfctl-obj.8", "", "btf.", obj_records.BtfRecord),
    ("bpfctl-advise.8", "Report", "", advise_findings.Advice),
    ("bpfctl-advise.8", "Report", "findings[].", advise_findings.Finding),
    ("bpfctl-advise.8", "Report", "findings[].saving.", advise_findings.Saving),
    ("bpfctl-bench.8", "Report", "", bench_maps.Report),
    ("bpfctl-bench.8", "Report", "host.", bench_host.Host),
    ("bpfctl-bench.8", "Report", "host.caches[].", bench_host.Cache),
    ("bpfctl-bench.8", "Report", "rows[].", bench_maps.Row),
    ("bpfctl-bench.8", "Report", "article[].", bench_maps.Verdict),
    ("bpfctl-bench.8", "Report", "paths[].", bench_paths.PathRow),
    ("bpfctl-bench.8", "Comparison", "", bench_compare.Change),
    ("bpfctl-obj.8", "bpfctl obj check", "", check.Fit),
    ("bpfctl-obj.8", "bpfctl obj check", "findings[].", check.Finding),
    ("bpfctl-feature.8", "", "", features.Features),
    ("bpfctl-feature.8", "", "prog_types[].", features.TypeFeature),
    ("bpfctl-feature.8", "", "helpers[].", features.HelperFeature),
    ("bpfctl-feature.8", "", "misc[].", features.MiscFeature),
]


def _walk(group: Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for name in group.members:
        command = group.find(name)
        assert command is not None
        if isinstance(command, Group):
            yield from _walk(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(_walk(ROOT))
every_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
every_page = pytest.mark.parametrize("page", manual.PAGES)


# --- commands ------------------------------------------------------------------------------------


@every_command
def test_has_help(path: tuple[str, ...]) -> None:
    first = COMMANDS[path].help.splitlines()[0]
    assert first.endswith((".", ":")), first


@every_command
def test_is_in_a_synopsis(path: tuple[str, ...]) -> None:
    synopsis = manual.text(manual.section(manual.page_of(*path), "SYNOPSIS"))
    assert f"{' '.join(('bpfctl', *path))} " in f"{synopsis} ".replace("\n", " ")


@every_command
def test_is_in_the_overview(path: tuple[str, ...]) -> None:
    overview = manual.text(manual.section("bpfctl.8", "OBJECTS AND COMMANDS"))
    assert f"\n{' '.join(path)}\t" in overview


@every_command
def test_completes(path: tuple[str, ...]) -> None:
    complete = ShellComplete(click_root(), {}, "bpfctl", "_BPFCTL_COMPLETE").get_completions
    *before, last = path
    assert last in [item.value for item in complete(before, last[:2])]
    command = COMMANDS[path]
    offered = [item.value for item in complete(list(path), "")]
    assert set(command.keywords) <= set(offered)


def test_every_object_has_a_page() -> None:
    objects = {path[0] for path in COMMANDS if len(path) > 1} | {"advise"}
    assert set(manual.PAGES) == {"bpfctl.8"} | {f"bpfctl-{name}.8" for name in objects}


# --- words ---------------------------------------------------------------------------------------


def _words_read(module: str) -> set[str]:
    """The literals that the parser of ``module`` compares words with."""
    tree = ast.parse((SOURCE / module).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("take", "take_prefix")
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _words_of_page(page: str) -> set[str]:
    text = manual.text(manual.section(page, "DESCRIPTION"))
    return {word.strip(".,:;()") for word in text.split()}


@pytest.mark.parametrize(("module", "objects"), WORDS.items())
def test_words_of_the_grammar_are_in_the_manual(module: str, objects: tuple[str, ...]) -> None:
    words = _words_read(module)
    assert words
    for name in objects:
        assert words - _words_of_page(manual.page_of(name)) == set()


@every_command
def test_words_that_completion_offers_are_in_the_manual(path: tuple[str, ...]) -> None:
    if manual.page_of(*path) == "bpfctl.8":
        known = set(manual.text(manual.section("bpfctl.8", "SYNOPSIS")).split())
    else:
        known = _words_of_page(manual.page_of(*path))
    command = COMMANDS[path]
    # completion offers the usual short form: sec for section
    assert [word for word in command.keywords if not any(full.startswith(word) for full in known)] == []


@pytest.mark.parametrize(
    "option",
    [name for option in click_root().params for name in option.opts],
    ids=lambda name: name.lstrip("-"),
)
def test_global_option_is_in_the_manual(option: str) -> None:
    options = manual.text(manual.section("bpfctl.8", "OPTIONS")).replace(",", " ")
    assert option.removeprefix("-") in options.split() or option in options.split()


# --- JSON keys -----------------------------------------------------------------------------------


def _kind(annotation: Any) -> str:
    """The manual's word for the type of a field."""
    options = [option for option in typing.get_args(annotation) if option is not types.NoneType]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = options[0]
    if typing.get_origin(annotation) is tuple:
        return _kind(typing.get_args(annotation)[0]) + "s"
    names = {Any: "any", bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(annotation, "object")


@pytest.mark.parametrize(
    ("page", "subsection", "prefix", "record"), RECORDS, ids=[f"{r.__name__}-{p}" for p, _, _, r in RECORDS]
)
def test_keys_of_a_record_are_in_the_manual(page: str, subsection: str, prefix: str, record: type) -> None:
    names = vars(sys.modules[record.__module__]) | vars(typing)  # which are not there at run time
    hints = typing.get_type_hints(record, names, {})
    fields = {name: _kind(annotation) for name, annotation in hints.items()}
    documented = {
        key.removeprefix(prefix): kind
        for key, kind in manual.documented_keys(page, subsection).items()
        if key.startswith(prefix) and "." not in key.removeprefix(prefix)
    }
    assert documented == fields


@pytest.mark.parametrize(
    "module", [records, obj_records, features, check], ids=lambda module: module.__name__
)
def test_no_record_is_left_out(module: types.ModuleType) -> None:
    defined = {
        member
        for member in vars(module).values()
        if hasattr(member, "_fields") and member.__module__ == module.__name__
    }
    assert defined
    assert defined <= {record for *_, record in RECORDS}


# --- pages and examples --------------------------------------------------------------------------


@every_page
def test_page_is_well_formed(page: str) -> None:
    if shutil.which("mandoc") is None:
        assert os.environ.get("BPFCTL_REQUIRE_KERNEL") != "1", "mandoc is not installed"
        pytest.skip("mandoc is not installed")
    lint = ["mandoc", "-T", "lint", "-W", "warning", str(manual.ROOT / "man" / page)]
    done = subprocess.run(lint, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@every_page
def test_page_says_which_version_it_is_of(page: str) -> None:
    from bpfctl.version import VERSION

    assert f'"bpfctl {VERSION}"' in manual.source(page)


class _Refusing:
    """A kernel that refuses everything: whatever gets this far was understood."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> NoReturn:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        return refuse


def _understand(line: str) -> None:
    """Run ``line`` up to the first thing that is no matter of words; UsageError for a mistake in it."""
    words = shlex.split(line)[1:]
    try:
        parsed = parse_arguments(words)
        run(App(parsed.options), parsed)
    except UsageError:
        raise
    except BpfctlError:
        return


def _shown() -> list[str]:
    scripts = [manual.examples(page) for page in manual.PAGES]
    scripts += manual.readme_blocks("sh", "A quick tour") + manual.readme_blocks("bash", "In CI")
    return [line for script in scripts for line in manual.commands(script)]


@pytest.fixture
def _no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall, "system", _Refusing())
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.mark.usefixtures("_no_kernel")
@pytest.mark.parametrize("line", _shown())
def test_example_is_understood(line: str) -> None:
    _understand(line)


@pytest.mark.usefixtures("_no_kernel")
@pytest.mark.parametrize(
    "line",
    [
        "bpfctl link set dev eth0 xdp objekt x.o",
        "bpfctl filter add dev eth0 ingress bpf da obj x.o sektion tc",
        "bpfctl map pin pinned m:x",
        "bpfctl prog lod x.o m:x",
    ],
)
def test_a_mistake_in_an_example_is_found(line: str) -> None:
    with pytest.raises(UsageError):
        _understand(line)

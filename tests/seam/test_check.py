"""``obj check`` against the BTF of a kernel made for the test: no kernel is asked, no privilege needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from btf_builder import BtfBuilder

from bpfctl.errors import BpfctlError, BtfError
from bpfctl.kernel import syscall
from bpfctl.loader.check import check, failure
from bpfctl.objfile import read_object

TESTDATA = Path(__file__).parents[2] / "testdata"


class _Nobody:
    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object) -> NoReturn:
            raise AssertionError(f"{name}() is a system call")

        return refuse


def old_kernel() -> BtfBuilder:
    """As Linux 5.10: program types up to 30, map types up to 28, helpers up to 155, attach types up to 37."""
    b = BtfBuilder()
    for name, last in (("prog_type", 30), ("map_type", 28), ("attach_type", 37)):
        b.enum(f"bpf_{name}", {f"BPF_{name}_{n}": n for n in range(last + 1)} | {f"__MAX_{name}": last + 1})
    b.enum("bpf_func_id", {f"BPF_FUNC_{n}": n for n in range(156)} | {"__BPF_FUNC_MAX_ID": 156})
    b.enum("", {"BTF_KIND_FUNC": 12, "BTF_KIND_FUNC_PROTO": 13, "BTF_KIND_VAR": 14, "BTF_KIND_DATASEC": 15})
    number = b.int()
    b.struct("net_device", 256, [("ifindex", number, 1024)])
    for function in ("do_nanosleep", "vfs_read", "bpf_lsm_file_open", "bpf_iter_task"):
        b.func(function, b.func_proto(number, []))
    b.add(8, "btf_trace_sched_switch", b.ptr(0))
    return b


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(syscall, "system", _Nobody())
    path = tmp_path / "vmlinux.btf"
    path.write_bytes(old_kernel().blob())
    return str(path)


def found(name: str, kernel: str) -> list[tuple[str, str, str, bool, str | None, str | None]]:
    fit = check(read_object(str(TESTDATA / f"{name}.bpf.o")), kernel)
    assert fit.kernel == kernel
    assert fit.fits is (failure(fit) is None)
    return [(f.kind, f.name, f.status, f.required, f.since, f.program) for f in fit.findings]


@pytest.mark.parametrize("name", ["xdp_pass", "proto_counters", "mixed_maps", "core_user", "map_in_map_btf"])
def test_an_object_that_fits(name: str, kernel: str) -> None:
    assert found(name, kernel) == []


def test_map_types(kernel: str) -> None:
    assert found("map_types", kernel) == [
        ("map_type", "bloom_filter", "missing", True, "5.16", None),
        ("map_type", "user_ringbuf", "missing", True, "6.1", None),
    ]


def test_helpers_and_targets(kernel: str) -> None:
    assert found("hooks", kernel) == [
        ("helper", "bpf_get_attach_cookie", "missing", True, "5.15", "with_cookie"),
        ("target", "no_such_function_in_any_kernel", "missing", True, None, "on_nothing"),
        ("target", "sum_once", "unknown", True, None, "in_its_place"),
    ]


def test_functions_and_tracepoints_that_no_load_asks_for(kernel: str, tmp_path: Path) -> None:
    """Types say what there is, and what there is not only of raw tracepoints."""
    moved = tmp_path / "moved.bpf.o"
    data = Path(_path("hooks")).read_bytes()
    for old, new in ((b"kprobe/do_", b"kprobe/no_"), (b"/sched_switch", b"/sched_glitch")):
        data = data.replace(old, new)
    moved.write_bytes(data)
    findings = {f.program: f for f in check(read_object(str(moved)), kernel).findings if f.kind == "target"}
    answers = {name: (f.name, f.status, f.required) for name, f in findings.items()}
    assert answers["on_call"] == ("no_nanosleep", "unknown", True)
    assert answers["on_tracepoint"] == ("sched/sched_glitch", "unknown", True)
    assert answers["on_raw_tracepoint"] == ("sched_glitch", "missing", True)
    assert findings["on_raw_tracepoint"].reason == "the kernel has no tracepoint called sched_glitch"
    assert answers["on_typed_tracepoint"] == ("sched_glitch", "missing", True)


def test_where_it_is(kernel: str) -> None:
    fit = check(read_object(str(TESTDATA / "hooks.bpf.o")), kernel)
    call, target, _ = fit.findings  # what its other programs are for is there
    assert call.instruction is not None
    assert call.source == "testdata/hooks.bpf.c:17: return bpf_get_attach_cookie(ctx) == 0;"
    assert call.reason == "the kernel has no bpf_get_attach_cookie"
    assert target.reason.startswith("the kernel has no function called no_such_function_in_any_kernel, which")
    error = failure(fit)
    assert error is not None
    assert error.exit_status == 2


def test_what_is_behind_a_question_is_guarded(kernel: str) -> None:
    findings = [(f.program, f.required) for f in check(read_object(_path("core_missing")), kernel).findings]
    assert findings == [("reads_it", True), ("asks_first", False)]


def test_what_types_do_not_tell_is_not_known(kernel: str) -> None:
    answers = {
        (kind, name): (status, required) for kind, name, status, required, *_ in found("externs", kernel)
    }
    assert answers["kconfig", "CONFIG_HZ"] == ("unknown", True)
    assert answers["kconfig", "CONFIG_BPFCTL_MISSING"] == ("unknown", False)
    assert answers["ksym", "runqueues"] == ("missing", True)
    assert answers["kfunc", "bpf_rcu_read_lock"] == ("missing", True)
    assert answers["ksym", "bpfctl_no_variable"] == ("missing", False)


def test_files_that_are_no_btf(kernel: str, tmp_path: Path) -> None:
    obj = read_object(_path("hooks"))
    (tmp_path / "text").write_text("no BTF at all")
    with pytest.raises(BtfError, match="not BTF"):
        check(obj, str(tmp_path / "text"))
    with pytest.raises(BpfctlError, match="No such file"):
        check(obj, str(tmp_path / "none"))


def _path(name: str) -> str:
    return str(TESTDATA / f"{name}.bpf.o")

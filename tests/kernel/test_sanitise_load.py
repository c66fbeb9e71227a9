"""BTF written for older kernels: this one takes it, whatever it lacks and whatever is left out for it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from btf_builder import everything
from fixture_types import Requires

from bpfctl.btf.sanitise import features, sanitised
from bpfctl.kernel import bpf, info, probe
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.loader.object_btf import load_btf, missing_features
from bpfctl.objfile import kernel_btf, read_object

pytestmark = pytest.mark.kernels
# No kernel takes the name of a map, and a function with a nameless argument.
REFUSED = {"pin_bad_name.bpf.o", "jump_table.bpf.o"}
ALL = tuple(sorted(features(everything().btf())))
OBJECTS = sorted((Path(__file__).parents[2] / "testdata").glob("*.bpf.o"))


@pytest.mark.parametrize("lacking", [*((name,) for name in ALL), ALL])
def test_the_kernel_takes_what_is_left(lacking: tuple[str, ...]) -> None:
    types = everything().btf()
    older = {"decl_tag"} if "func" in lacking else set()  # a kernel without functions has no tags for them
    blob = sanitised(types, older | {*lacking, *missing_features(types)})
    log = bpf.VerifierLog(1, 1 << 16)
    try:
        os.close(bpf.btf_load(blob, log))
    except OSError as error:
        raise AssertionError(log.text) from error


def test_one_of_everything_loads() -> None:
    loaded = load_btf(everything().blob(), "everything")
    assert loaded.has_functions
    loaded.fd.close()


def test_objects_load_their_types() -> None:
    """Those of all test objects that have some, whatever this kernel lacks."""
    checked = 0
    for path in OBJECTS:
        obj = read_object(str(path), maps_abi="libbpf" if path.name == "ambiguous_map.bpf.o" else None)
        data = kernel_btf(obj) if obj.byte_order == "little" else None
        if data is not None and not obj.externs and path.name not in REFUSED:
            try:
                load_btf(data, obj.path).fd.close()
            except OSError as error:
                raise AssertionError(path.name) from error
            checked += 1
    assert checked >= 30


@pytest.mark.parametrize("missing", [False, True])
def test_context_tags_that_a_kernel_need_not_know(
    monkeypatch: pytest.MonkeyPatch, requires: Requires, missing: bool
) -> None:
    if not missing:
        requires("arg_ctx")
    monkeypatch.setattr(probe.ARG_CTX, "missing", lambda: missing)
    obj = read_object(str(OBJECTS[0].with_name("context_tag.bpf.o")))
    with Transaction() as transaction:
        loaded = load(obj, LoadRequest(("asks_both", "asks_one")), transaction)
    with loaded:
        assert loaded.warnings == []
        types = {info.prog_main_type(one.fd.number) for one in loaded.programs.values()}
        assert len(types) == 2
        records = loaded.program("asks_both").linked.func_info
        assert (struct.unpack_from("=I", records, 12)[0] >= len(obj.btf or ())) is missing

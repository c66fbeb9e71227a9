"""Programs and maps as the kernel has them: bpftool is the judge where it knows the field."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import TESTDATA

import bpfctl
from bpfctl.errors import AmbiguousError, BpfctlError, KernelError, NotFoundError, UsageError
from bpfctl.inventory.elements import Element, OpenMap, open_elements
from bpfctl.inventory.listing import find_map, find_program, list_maps, list_programs
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.kernel import bpf, info
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import possible_cpus
from bpfctl.uapi import BPF_EXIST, BPF_NOEXIST, MapFlag, MapType

pytestmark = pytest.mark.kernel

NAME = f"inv{os.getpid()}"[:15]  # tests of other runs have maps too


def create(kind: MapType, key: int = 4, value: int = 8, entries: int = 4, **more: Any) -> Fd:
    return Fd(bpf.map_create(MapAttributes(kind, key, value, entries, name=NAME, **more)))


@pytest.fixture
def hash_map() -> Iterator[Fd]:
    with create(MapType.HASH) as fd:
        yield fd


@pytest.fixture
def program(bpffs: Path) -> Path:
    """The pin of a program whose name is longer than the kernel keeps."""
    pin = bpffs / "prog"
    source = bpfctl.ObjectSource(str(TESTDATA / "endpoints.bpf.o"), section="from-container")
    bpfctl.load_program(source, str(pin), options=bpfctl.LoadOptions(program_type=3))
    return pin


def bpftool(*words: str) -> Any:
    return json.loads(subprocess.run(["bpftool", "-j", *words], check=True, capture_output=True).stdout)


def the_id(fd: Fd) -> str:
    return str(bpf_map_id(fd))


def bpf_map_id(fd: Fd) -> int:
    return info.map_info(fd.number).id


# --- records -------------------------------------------------------------------------------------


def test_program_as_bpftool_has_it(program: Path, requires: Any) -> None:
    requires("bpftool")
    ours = find_program(Reference("pinned", str(program)))
    theirs = bpftool("prog", "show", "id", str(ours.id))
    for key in (
        "id",
        "type",
        "tag",
        "gpl_compatible",
        "uid",
        "bytes_xlated",
        "jited",
        "bytes_memlock",
        "btf_id",
    ):
        assert (key, getattr(ours, key)) == (key, theirs[key])
    assert abs(ours.loaded_at - theirs["loaded_at"]) <= 1
    assert list(ours.map_ids) == theirs["map_ids"]
    assert ours.pinned == (str(program),)
    assert ours.pids is None


def test_long_program_name_comes_from_the_btf(program: Path) -> None:
    assert find_program(Reference("pinned", str(program))).name == "handle_from_container"


def test_map_as_bpftool_has_it(requires: Any) -> None:
    requires("bpftool")
    with create(MapType.LPM_TRIE, 8, 4, 10, map_flags=MapFlag.NO_PREALLOC) as fd:
        ours = find_map(Reference("id", the_id(fd)), processes=True)
        theirs = bpftool("map", "show", "id", the_id(fd))
    for key in ("id", "type", "name", "flags", "bytes_key", "bytes_value", "max_entries", "bytes_memlock"):
        assert (key, getattr(ours, key)) == (key, theirs[key])
    assert ours.flag_names == ("no_prealloc",)
    assert ours.frozen is False
    assert ours.pinned == ()
    assert ours.pids == ()  # only this process, which does not count itself


def test_lists_hold_what_was_made(program: Path, hash_map: Fd) -> None:
    wanted = find_program(Reference("pinned", str(program)))
    listed = {record.id: record for record in list_programs(pins=True)}
    assert listed[wanted.id] == wanted
    maps = {record.id: record for record in list_maps()}
    assert maps[bpf_map_id(hash_map)].name == NAME
    assert maps[bpf_map_id(hash_map)].pinned is None
    assert list(maps) == sorted(maps)


def test_holder_of_a_descriptor(hash_map: Fd) -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[hash_map.number])
    try:
        record = find_map(Reference("id", the_id(hash_map)), processes=True)
        assert record.pids == ((child.pid, "cat"),)
    finally:
        child.communicate()


# --- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "pinned", "name", "tag"])
def test_program_by_each_form(program: Path, by: str) -> None:
    record = find_program(Reference("pinned", str(program)))
    value = {"id": record.id, "pinned": program, "name": record.name, "tag": record.tag}[by]
    same = [r.id for r in list_programs() if by in ("name", "tag") and getattr(r, by) == value]
    if len(same) > 1:
        with pytest.raises(AmbiguousError, match=str(record.id)):
            open_program(Reference(by, str(value)))
    else:
        assert find_program(Reference(by, str(value))).id == record.id


def test_the_cut_name_fits_too(program: Path) -> None:
    record = find_program(Reference("pinned", str(program)))
    assert names_one_of(record.id, "handle_from_con")
    with pytest.raises(NotFoundError):
        open_program(Reference("name", "handle_from_contraband"))


def names_one_of(number: int, name: str) -> bool:
    try:
        return find_program(Reference("name", name)).id == number
    except AmbiguousError as error:
        return str(number) in error.message


def test_several_of_one_name(hash_map: Fd) -> None:
    with create(MapType.ARRAY) as other:
        ids = sorted((bpf_map_id(hash_map), bpf_map_id(other)))
        with pytest.raises(AmbiguousError) as caught:
            open_map(Reference("name", NAME))
    assert caught.value.message == f"2 maps have name {NAME}: ids {ids[0]}, {ids[1]}"


NOTHING = [
    (open_program, Reference("id", "4294967295"), NotFoundError, "no program has id 4294967295"),
    (open_map, Reference("id", "4294967295"), NotFoundError, "no map has id 4294967295"),
    (open_map, Reference("name", "no such map"), NotFoundError, "no map has name no such map"),
    (open_program, Reference("tag", "0" * 16), NotFoundError, f"no program has tag {'0' * 16}"),
    (open_map, Reference("tag", "0" * 16), UsageError, "a map has no tag: name it by id, pinned or name"),
    (open_map, Reference("pinned", "/no/pin"), NotFoundError, "nothing is pinned at /no/pin"),
    (
        open_map,
        Reference("pinned", "/etc"),
        KernelError,
        "cannot open the pin /etc: Permission denied (EACCES)",
    ),
]


@pytest.mark.parametrize(("opener", "reference", "kind", "message"), NOTHING)
def test_nothing_there(opener: Any, reference: Reference, kind: type[BpfctlError], message: str) -> None:
    with pytest.raises(kind) as caught:
        opener(reference)
    assert caught.value.message == message


def test_pin_of_the_other_kind(program: Path, bpffs: Path, hash_map: Fd) -> None:
    bpf.obj_pin(hash_map.number, str(bpffs / "map"))
    with pytest.raises(NotFoundError, match="is a pinned program, not a map"):
        open_map(Reference("pinned", str(program)))
    with pytest.raises(NotFoundError, match="is a pinned map, not a program"):
        open_program(Reference("pinned", str(bpffs / "map")))


# --- elements ------------------------------------------------------------------------------------


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def test_write_read_delete(hash_map: Fd) -> None:
    with open_elements(Reference("id", the_id(hash_map))) as target:
        assert list(target.elements()) == []
        for number in range(3):
            target.update(u32(number), bytes([number] * 8), BPF_NOEXIST)
        assert target.lookup(u32(1)) == Element(u32(1), b"\1" * 8)
        target.delete(u32(1))
        assert sorted(target.elements()) == [Element(u32(n), bytes([n] * 8)) for n in (0, 2)]


def test_elements_refused(hash_map: Fd) -> None:
    number = the_id(hash_map)
    label = f"hash map id {number} ({NAME})"
    with open_elements(Reference("id", number)) as target:
        for key in range(4):
            target.update(u32(key), bytes(8))
        refused = [
            (lambda: target.lookup(u32(9)), f"{label} has no such element"),
            (lambda: target.delete(u32(9)), f"{label} has no such element"),
            (lambda: target.update(u32(9), bytes(8), BPF_EXIST), f"{label} has no such element"),
            (
                lambda: target.update(u32(9), bytes(8)),
                f"cannot update {label}: Argument list too long (E2BIG)",
            ),
            (
                lambda: target.update(u32(1), bytes(8), BPF_NOEXIST),
                f"cannot update {label}: File exists (EEXIST)",
            ),
        ]
        for call, message in refused:
            with pytest.raises(BpfctlError) as caught:
                call()
            assert caught.value.message == message


def test_per_cpu_values() -> None:
    with create(MapType.PERCPU_ARRAY, 4, 4, 1) as fd, open_elements(Reference("id", the_id(fd))) as target:
        target.update(u32(0), u32(7))
        assert list(target.elements()) == [Element(u32(0), (u32(7),) * possible_cpus())]


def test_map_of_maps_takes_references_and_gives_ids() -> None:
    with create(MapType.ARRAY) as inner:
        outer = create(MapType.HASH_OF_MAPS, 4, 4, 2, inner_map_fd=inner.number)
        with outer, open_elements(Reference("id", the_id(outer))) as target:
            assert target.holds == "map"
            target.update_reference(u32(5), Reference("id", the_id(inner)))
            assert list(target.elements()) == [Element(u32(5), u32(bpf_map_id(inner)))]


def test_program_array_takes_references_and_gives_ids(program: Path) -> None:
    record = find_program(Reference("pinned", str(program)))
    with create(MapType.PROG_ARRAY, 4, 4, 2) as fd, open_elements(Reference("id", the_id(fd))) as target:
        target.update_reference(u32(1), Reference("pinned", str(program)))
        assert target.lookup(u32(1)).value == u32(record.id)
        # the other slot is empty, which is no element
        assert list(target.elements()) == [Element(u32(1), u32(record.id))]


def test_values_that_cannot_be_read_say_why() -> None:
    with (
        create(MapType.PERF_EVENT_ARRAY, 4, 4, 2) as fd,
        open_elements(Reference("id", the_id(fd))) as target,
    ):
        assert list(target.elements()) == [
            Element(u32(n), None, "Operation not supported (ENOTSUPP, 524)") for n in range(2)
        ]


def test_a_queue_shows_its_head() -> None:
    with create(MapType.QUEUE, 0, 4, 2) as fd, open_elements(Reference("id", the_id(fd))) as target:
        target.update(b"", u32(3))
        assert target.lookup(b"") == Element(b"", u32(3))
        with pytest.raises(KernelError, match="cannot list queue map"):
            list(target.elements())


def test_reading_ends_though_the_map_keeps_changing(hash_map: Fd) -> None:
    def restless(target: OpenMap) -> None:
        for seen in target.elements():
            # the key is gone when the next one is asked for, so the kernel starts from the front
            target.delete(seen.key)
            target.update(u32(struct.unpack("=I", seen.key)[0] + 1), bytes(8))

    with open_elements(Reference("id", the_id(hash_map))) as target:
        target.update(u32(0), bytes(8))
        with pytest.raises(BpfctlError, match="changes faster than it can be read"):
            restless(target)

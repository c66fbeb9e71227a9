"""ip-route(8)'s grammar as tables: words in, values out."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from bpfctl.api.routes import Tunnel
from bpfctl.api.sources import ObjectSource
from bpfctl.attach.address import Prefix
from bpfctl.attach.nexthop import NexthopRequest
from bpfctl.attach.route import Leg, RouteRequest
from bpfctl.cli.grammar import rtnames
from bpfctl.cli.grammar.address import parse_address, parse_prefix
from bpfctl.cli.grammar.nexthop import parse_nexthop
from bpfctl.cli.grammar.route import RouteSelection, in_family, parse_route, parse_selection
from bpfctl.errors import UsageError
from bpfctl.inventory.reference import Reference

X = ObjectSource("x.o")
NET = Prefix(socket.AF_INET, bytes([10, 0, 0, 0]), 8)
OUT = Tunnel((("out", X),))


def v6(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


@pytest.mark.parametrize(
    ("word", "prefix"),
    [
        ("default", Prefix()),
        ("any", Prefix()),
        ("10.9.1.0/24", Prefix(socket.AF_INET, bytes([10, 9, 1, 0]), 24)),
        ("10.9/16", Prefix(socket.AF_INET, bytes([10, 9, 0, 0]), 16)),
        ("10.9.1.7", Prefix(socket.AF_INET, bytes([10, 9, 1, 7]), 32)),
        ("10.0.0.0/255.0.0.0", NET),
        ("0.0.0.0/0", Prefix(socket.AF_INET)),
        ("::/0", Prefix(socket.AF_INET6)),
        ("fc00:9::/64", Prefix(socket.AF_INET6, v6("fc00:9::"), 64)),
        ("::ffff:10.0.0.1", Prefix(socket.AF_INET6, v6("::ffff:10.0.0.1"), 128)),
    ],
)
def test_prefix(word: str, prefix: Prefix) -> None:
    assert parse_prefix(word) == prefix


@pytest.mark.parametrize(
    "word",
    ["", "x", "10.0.0.0/33", "10.0.0.0/", "10.0.0.256", "1.2.3.4.5", "1..2", "::1/129", ":::",
     "10.0.0.0/255.0.255.0", "\u0661.0.0.1", "9" * 5000, "10.0.0.0/" + "9" * 5000, "::1\0",
     "-1.0.0.0", "fc00::/64/64"],
)  # fmt: skip
def test_no_prefix(word: str) -> None:
    with pytest.raises(UsageError, match="Illegal prefix"):
        parse_prefix(word)


def test_address_of_a_family() -> None:
    assert parse_address("fc00::1", socket.AF_INET6) == v6("fc00::1")
    with pytest.raises(UsageError, match='Illegal IPv4 address "fc00::1"'):
        parse_address("fc00::1", socket.AF_INET)
    with pytest.raises(UsageError, match='Illegal address "default"'):
        parse_address("default")


@pytest.mark.parametrize(
    ("words", "changes", "tunnels"),
    [
        ("10.0.0.0/8 encap bpf out obj x.o dev v0", {"legs": (Leg("v0"),)}, (OUT,)),
        ("to 10.0.0.0/8 dev v0 encap bpf out obj x.o onlink", {"legs": (Leg("v0", onlink=True),)}, (OUT,)),
        (
            "10.0.0.0/8 encap bpf in o x.o s a xmit pinned /p headroom 0x20 via 10.0.0.1",
            {"legs": (Leg("", bytes([10, 0, 0, 1])),)},
            (Tunnel((("in", X._replace(section="a")), ("xmit", Reference("pinned", "/p"))), 32),),
        ),
        (
            "local 10.0.0.0/8 encap bpf in id 7 oif lo tab 100 proto static metric 5 src 10.1.1.1 scope host",
            {
                "kind": 2,
                "legs": (Leg("lo"),),
                "table": 100,
                "protocol": 4,
                "metric": 5,
                "source": bytes([10, 1, 1, 1]),
                "scope": 254,
            },
            (Tunnel((("in", Reference("id", "7")),)),),
        ),
        (
            "10.0.0.0/8 encap bpf out obj x.o via inet6 fc00::1 mtu lock 1400 adv 1300 dsfield 0x10 pref low",
            {
                "legs": (Leg("", v6("fc00::1")),),
                "metrics": ((2, 1400), (8, 1300)),
                "lock": 4,
                "tos": 16,
                "preference": 3,
            },
            (OUT,),
        ),
        (
            "10.0.0.0/8 table local nexthop via 10.0.0.1 dev v0 weight 2 "
            "encap bpf out obj x.o nexthop dev v1",
            {"table": 255, "legs": (Leg("v0", bytes([10, 0, 0, 1]), weight=2), Leg("v1"))},
            (OUT, None),
        ),
        ("10.0.0.0/8 nhid 5", {"nexthop_id": 5}, ()),
        (
            "10.0.0.0/8 encap seg6local action End.BPF endpoint obj x.o verb dev v0 expires 9",
            {"legs": (Leg("v0"),), "expires": 9},
            (Tunnel((("endpoint", X._replace(verbose=True)),)),),
        ),
    ],
)
def test_route(words: str, changes: dict[str, Any], tunnels: tuple[Tunnel | None, ...]) -> None:
    command = parse_route(words.split())
    assert command.request == RouteRequest(NET)._replace(**changes)
    assert command.tunnels == tunnels


def test_family_and_table_of_a_request() -> None:
    assert RouteRequest(Prefix(), (Leg("", v6("fc00::1")),)).family == socket.AF_INET6
    assert RouteRequest(Prefix(), (Leg("v0"),)).family == socket.AF_INET
    assert [RouteRequest(NET, kind=kind).effective_table for kind in (None, 1, 2, 3, 4, 5, 6)] == [
        254, 254, 255, 255, 255, 254, 254,
    ]  # fmt: skip


def test_family_of_an_option() -> None:
    command = parse_route(["default", "dev", "v0"])
    assert in_family(command, 0) == command
    assert in_family(command, socket.AF_INET6).request.family == socket.AF_INET6
    assert in_family(parse_route(["::/0"]), socket.AF_INET6).request.family == socket.AF_INET6
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/8 is no IPv6 prefix"):
        in_family(parse_route(["10.0.0.0/8"]), socket.AF_INET6)


def test_nexthop() -> None:
    words = "id 5 encap bpf out obj x.o via fc00::1 dev v0 onlink proto boot"
    assert parse_nexthop(words.split()) == (NexthopRequest(5, "v0", v6("fc00::1"), True, 3), OUT)


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ("", RouteSelection()),
        ("table all", RouteSelection(0)),
        ("tab 7 dev v0", RouteSelection(7, None, "v0")),
        ("exact 10.0.0.0/8 proto ra", RouteSelection(254, NET, "", 9)),
        ("to 10.0.0.0/8", RouteSelection(254, NET)),
    ],
)
def test_selection(words: str, chosen: RouteSelection) -> None:
    assert parse_selection(words.split()) == chosen


def test_names_of_the_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rt_tables there is, and whatever .conf lies beside it; bad lines are passed over."""
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    monkeypatch.setattr(rtnames, "_DIRECTORIES", (str(etc), str(usr)))
    rtnames._names_of.cache_clear()
    for path, text in {
        usr / "rt_tables": "500 hidden\n",
        etc / "rt_tables": "# comment\n\n100 blue # rest\nx y\n0x65\tred\n300\n",
        etc / "rt_tables.d/more.conf": "102 green\n",
        etc / "rt_tables.d/README": "103 none\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    try:
        found = {word: rtnames.parse_name(word, rtnames.TABLES, "table", 2**32 - 1, "rt_tables") for word in
                 ("blue", "red", "green", "main", "0x10")}  # fmt: skip
        assert found == {"blue": 100, "red": 101, "green": 102, "main": 254, "0x10": 16}
        assert [rtnames.name_of(n, rtnames.TABLES, "rt_tables") for n in (100, 255, 500)] == [
            "blue",
            "local",
            "500",
        ]
        with pytest.raises(UsageError, match='Illegal table "hidden": a number up to'):
            rtnames.parse_name("hidden", rtnames.TABLES, "table", 2**32 - 1, "rt_tables")
    finally:
        rtnames._names_of.cache_clear()

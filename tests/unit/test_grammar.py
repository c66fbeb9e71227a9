"""iproute2's grammar as tables: words in, values out."""

from __future__ import annotations

import pytest
from netlab import TESTDATA

from bpfctl.api.sources import ObjectSource
from bpfctl.btf.scalars import Codec
from bpfctl.btf.values import value_codec
from bpfctl.btf.views import plain_codec
from bpfctl.cli.app import Options
from bpfctl.cli.grammar import element, link, qdisc
from bpfctl.cli.grammar.classid import classid_text, parse_classid
from bpfctl.cli.grammar.filter import FilterCommand, parse_filter
from bpfctl.cli.grammar.link import LinkSet
from bpfctl.cli.grammar.protocol import parse_protocol, protocol_name
from bpfctl.cli.grammar.tokens import Tokens, parse_number
from bpfctl.cli.root import Arguments, parse_arguments
from bpfctl.errors import BpfctlError, UsageError
from bpfctl.inventory.reference import Reference
from bpfctl.inventory.typed import View
from bpfctl.objfile import read_object
from bpfctl.objfile.spec import Setting

X = ObjectSource("x.o")


# --- options before the object --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("-j link", Options(json=True), "link"),
        ("-json link", Options(json=True), "link"),
        ("--json link", Options(json=True), "link"),
        ("-js link", Options(json=True), "link"),
        ("-n blue link", Options(netns="blue"), "link"),
        ("-netns blue link", Options(netns="blue"), "link"),
        ("--netns=blue link", Options(netns="blue"), "link"),
        ("-s -st -stat -statistics", Options(stats=True), ""),
        ("-d -p -f", Options(details=True, pretty=True, force=True), ""),
        ("-b -", Options(batch="-"), ""),
        ("-6 route", Options(ipv6=True), "route"),
        ("-4 route", Options(ipv4=True), "route"),
        ("link -j", Options(), "link -j"),
    ],
)
def test_options(line: str, options: Options, words: str) -> None:
    assert parse_arguments(line.split()) == Arguments(options, words.split())


def test_version_and_help_are_told_apart() -> None:
    assert parse_arguments(["-V", "-h"])[2:] == (True, True)
    assert parse_arguments(["-v"])[2:] == (True, False)


@pytest.mark.parametrize("word", ["-batch", "-n"])
def test_option_without_its_value(word: str) -> None:
    with pytest.raises(UsageError, match="requires an argument"):
        parse_arguments([word])


@pytest.mark.parametrize("word", ["-x", "-", "--", "-nets", "-forced", "-J", "-json=1"])
def test_unknown_option(word: str) -> None:
    with pytest.raises(UsageError, match="is unknown"):
        parse_arguments([word, "link"])


# --- link ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dev v0 xdp off", LinkSet("v0", "xdp", None)),
        ("v0 xdpgeneric none", LinkSet("v0", "xdpgeneric", None)),
        ("xdpdrv off dev v0", LinkSet("v0", "xdpdrv", None)),
        ("dev dev xdp off", LinkSet("dev", "xdp", None)),
        ("v0 xdp obj x.o", LinkSet("v0", "xdp", X)),
        ("v0 xdp o x.o", LinkSet("v0", "xdp", X)),
        ("v0 xdp object-file x.o", LinkSet("v0", "xdp", X)),
        ("v0 xdp object x.o", LinkSet("v0", "xdp", X)),
        ("v0 xdp obj off", LinkSet("v0", "xdp", ObjectSource("off"))),
        ("v0 xdp object-p /p", LinkSet("v0", "xdp", Reference("pinned", "/p"))),
        ("v0 xdp p m:a", LinkSet("v0", "xdp", Reference("pinned", "m:a"))),
        ("v0 xdp fd /p", LinkSet("v0", "xdp", Reference("pinned", "/p"))),
        ("v0 xdp id 0x10", LinkSet("v0", "xdp", Reference("id", "16"))),
        ("v0 xdp pinned /p sec a program b verb", LinkSet("v0", "xdp", Reference("pinned", "/p"))),
        ("v0 xdp obj x.o sec a", LinkSet("v0", "xdp", X._replace(section="a"))),
        ("v0 xdp obj x.o s a", LinkSet("v0", "xdp", X._replace(section="a"))),
        ("v0 xdp obj x.o section sec", LinkSet("v0", "xdp", X._replace(section="sec"))),
        ("v0 xdp obj x.o program f", LinkSet("v0", "xdp", X._replace(program="f"))),
        ("v0 xdp obj x.o v", LinkSet("v0", "xdp", X._replace(verbose=True))),
        ("v0 xdp obj x.o maps-abi libbpf", LinkSet("v0", "xdp", X._replace(maps_abi="libbpf"))),
        (
            "v0 xdp obj x.o set a.b=1 sec a --set c==",
            LinkSet("v0", "xdp", X._replace(section="a", settings=(Setting("a.b", "1"), Setting("c", "=")))),
        ),
        (
            "xdp obj x.o verbose program f sec a v0",
            LinkSet("v0", "xdp", ObjectSource("x.o", "a", "f", None, True)),
        ),
    ],
)
def test_link_set(line: str, expected: LinkSet) -> None:
    assert link.parse_set(line.split()) == expected


@pytest.mark.parametrize(
    "line",
    [
        "v0 xdp obj-p /p",
        "v0 xdp prog f",
        "v0 xdp i 3",
        "v0 XDP off",
        "v0 xdp of",
        "v0 xdp obj x.o set a",
        "v0 xdp obj x.o set =1",
        "v0 xdp obj x.o set",
        "v0 xdp id 3 set a=1",
    ],
)
def test_link_set_takes_no_other_words(line: str) -> None:
    with pytest.raises(UsageError):
        link.parse_set(line.split())


@pytest.mark.parametrize(("line", "device"), [("", None), ("v0", "v0"), ("dev v0", "v0"), ("dev dev", "dev")])
def test_link_show(line: str, device: str | None) -> None:
    assert link.parse_show(line.split()) == device


# --- filter -------------------------------------------------------------------------------------

HOOK = FilterCommand(device="v0", parent=0xFFFFFFF2)
BPF = HOOK._replace(kind="bpf", source=X)
IN_A = BPF._replace(source=X._replace(section="a"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dev v0", FilterCommand(device="v0")),
        ("dev v0 ingress", HOOK),
        ("ingress dev v0", HOOK),
        ("dev v0 parent ffff:fff2", HOOK),
        ("dev v0 egress", HOOK._replace(parent=0xFFFFFFF3)),
        ("dev v0 root", HOOK._replace(parent=0)),
        ("dev v0 parent 1:", HOOK._replace(parent=0x10000)),
        ("dev v0 ingress p 5", HOOK._replace(pref=5)),
        ("dev v0 ingress pref 5", HOOK._replace(pref=5)),
        ("dev v0 ingress prio 0x10", HOOK._replace(pref=16)),
        ("dev v0 ingress priority 5", HOOK._replace(pref=5)),
        ("dev v0 ingress pro ip", HOOK._replace(protocol=0x0800)),
        ("dev v0 ingress protocol 0x88a8", HOOK._replace(protocol=0x88A8)),
        ("dev v0 ingress c 010", HOOK._replace(chain=8)),
        ("dev v0 ingress handle 0x1", HOOK._replace(handle=1)),
        ("dev v0 ingress bpf", HOOK._replace(kind="bpf")),
        ("dev v0 ingress bpf obj x.o", BPF),
        ("dev v0 ingress bpf run obj x.o", BPF),
        ("dev v0 ingress bpf r obj x.o", BPF),
        ("dev v0 ingress bpf da obj x.o", BPF._replace(direct_action=True)),
        ("dev v0 ingress bpf obj x.o da", BPF._replace(direct_action=True)),
        ("dev v0 ingress bpf d obj x.o", BPF._replace(direct_action=True)),
        ("dev v0 ingress bpf direct-action obj x.o", BPF._replace(direct_action=True)),
        (
            "dev v0 ingress bpf obj x.o sec a da",
            BPF._replace(source=X._replace(section="a"), direct_action=True),
        ),
        ("dev v0 ingress bpf obj x.o s a", IN_A),
        ("dev v0 ingress bpf s obj x.o", BPF._replace(skip_hw=True)),
        ("dev v0 ingress bpf skip_sw obj x.o", BPF._replace(skip_sw=True)),
        ("dev v0 ingress bpf classid 1:1 obj x.o", BPF._replace(classid=0x10001)),
        ("dev v0 ingress bpf flowid 1:a obj x.o", BPF._replace(classid=0x1000A)),
        ("dev v0 ingress bpf f 1:1 obj x.o", BPF._replace(classid=0x10001)),
        ("dev v0 ingress bpf pinned /p", BPF._replace(source=Reference("pinned", "/p"))),
        ("dev v0 ingress bpf fd /p", BPF._replace(source=Reference("pinned", "/p"))),
        ("dev v0 ingress bpf id 7 da", BPF._replace(source=Reference("id", "7"), direct_action=True)),
    ],
)
def test_filter(line: str, expected: FilterCommand) -> None:
    assert parse_filter(line.split()) == expected


@pytest.mark.parametrize(
    "line",
    [
        "dev v0 dev v1",
        "dev v0 handle 1 handle 2",
        "dev v0 handle abc",
        "dev v0 prefs 1",
        "dev v0 BPF",
        "dev v0 bpf p /p",  # police comes before pinned
        "dev v0 bpf obj x.o up",
    ],
)
def test_filter_takes_no_other_words(line: str) -> None:
    with pytest.raises(UsageError):
        parse_filter(line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [("dev v0 clsact", ("v0", "clsact")), ("ingress dev v0", ("v0", "ingress"))],
)
def test_qdisc(line: str, expected: tuple[str, str]) -> None:
    assert qdisc.parse_change(line.split()) == expected


# --- numbers and names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("0", 0),
        ("10", 10),
        ("010", 8),
        ("0x1F", 31),
        ("08", None),
        ("1_0", None),
        ("-1", None),
        ("+1", None),
        ("", None),
        ("a", None),
        ("1a", None),
        ("\u0661", None),
        ("0x", None),
    ],
)
def test_parse_number(word: str, number: int | None) -> None:
    assert parse_number(word) == number


@pytest.mark.parametrize(
    ("word", "handle", "text"),
    [
        ("root", 0xFFFFFFFF, "root"),
        ("none", 0, "none"),
        ("1:", 0x10000, "1:"),
        ("1:a", 0x1000A, "1:a"),
        (":5", 5, ":5"),
        ("ffff:fff1", 0xFFFFFFF1, "ffff:fff1"),
        ("12345", 0x12345, "1:2345"),
    ],
)
def test_classid(word: str, handle: int, text: str) -> None:
    assert parse_classid(word) == handle
    assert classid_text(handle) == text


@pytest.mark.parametrize("word", ["", ":", "1:1:1", "10000:1", "1:10000", "x", "0x1:1", "123456789"])
def test_no_classid(word: str) -> None:
    with pytest.raises(UsageError, match="Illegal class"):
        parse_classid(word)


@pytest.mark.parametrize(
    ("word", "number", "name"),
    [
        ("all", 3, "all"),
        ("IP", 0x800, "ip"),
        ("ipv4", 0x800, "ip"),
        ("802.1q", 0x8100, "802.1Q"),
        ("0x86dd", 0x86DD, "ipv6"),
        ("4660", 0x1234, "[4660]"),
    ],
)
def test_protocol(word: str, number: int, name: str) -> None:
    assert parse_protocol(word) == number
    assert protocol_name(number) == name


# --- keys and values of maps ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "size", "data"),
    [
        ("5", 1, b"\5"),
        ("5", 4, (5).to_bytes(4, "little")),
        ("0x0102", 2, b"\2\1"),
        ("-1", 8, b"\xff" * 8),
        ("-128", 1, b"\x80"),
        ("10 0 0 1", 4, b"\x0a\0\0\1"),
        ("0x0a 0 0 1", 4, b"\x0a\0\0\1"),
        ("hex 0a 00 00 01", 4, b"\x0a\0\0\1"),
        ("hex 0a000001", 4, b"\x0a\0\0\1"),
        ("1 2 3", 3, b"\1\2\3"),
        ("", 0, b""),
    ],
)
def test_element_bytes(line: str, size: int, data: bytes) -> None:
    assert element.parse_data(Tokens(line.split()), plain_codec(size, "little"), "key") == data


def test_element_bytes_in_host_order() -> None:
    assert element.parse_data(Tokens(["5"]), plain_codec(4, "big"), "key") == b"\0\0\0\5"


@pytest.mark.parametrize(
    ("line", "size", "message"),
    [
        ("", 4, "Command line is not complete: the key of 4 bytes is missing"),
        ("256", 1, "key: '256' does not fit; a number of 1 bytes from 0 to 255 is wanted"),
        ("-129", 1, "key: '-129' does not fit; a number of 1 bytes from 0 to 255 is wanted"),
        ("1 2 3", 4, "The key has 4 bytes, not 3"),
        ("05", 6, "key: there are 1 bytes; plain bytes: 6 in hex is wanted"),
        ("1 2 3 256", 4, 'Illegal key byte "256": a number from 0 to 255 is wanted'),
        ("hex 0a0", 2, 'Illegal key "0a0": pairs of hex digits are wanted'),
        ("hex 0a", 2, "The key has 2 bytes, not 1"),
        ("hex zz", 1, 'Illegal key "zz": pairs of hex digits are wanted'),
    ],
)
def test_no_element_bytes(line: str, size: int, message: str) -> None:
    with pytest.raises(BpfctlError) as caught:
        element.parse_data(Tokens(line.split()), plain_codec(size, "little"), "key")
    assert str(caught.value) == message


def test_element_bytes_end_at_the_next_keyword() -> None:
    tokens = Tokens(["1", "2", "value", "3"])
    assert element.parse_data(tokens, plain_codec(2, "little"), "key", ("value",)) == b"\1\2"
    assert tokens.peek() == "value"


# --- typed words ----------------------------------------------------------------------------------


def eip() -> Codec:
    """The value of the map `eip` of testdata/elastic_ip.bpf.c."""
    obj = read_object(str(TESTDATA / "elastic_ip.bpf.o"))
    assert obj.btf is not None
    return value_codec(obj.btf, obj.maps["eip"].value_type_id)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["rate=1000", "vlan=7"], {"rate": 1000, "vlan": 7}),
        (["rate=0x10"], {"rate": 16}),
        (["mac=02:00:00:00:00:01", "owner=a=b"], {"mac": [2, 0, 0, 0, 0, 1], "owner": "a=b"}),
        (["mac[5]=1", "class=127"], {"mac": [0, 0, 0, 0, 0, 1], "class": 127}),
        (['{"rate": 5, "gateway": "10.0.0.1"}'], {"rate": 5, "gateway": "10.0.0.1"}),
        (["mac=[1,2,3]"], {"mac": [1, 2, 3, 0, 0, 0]}),
        (["hex", "01" + "00" * 39], {"rate": 1}),
        (["1", *["0"] * 39], {"rate": 1}),
    ],
)
def test_typed_value(words: list[str], shown: dict[str, object]) -> None:
    codec = eip()
    data = element.parse_data(Tokens([*words, "any"]), codec, "value", ("any",))
    assert codec.decode(data) == codec.decode(bytes(40)) | shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["nate=1"],
            "value.nate: there is no such member; struct eip, an object with rate, vlan, mac, policy,",
        ),
        (["rate=1", "rate=2"], 'value: "rate" comes twice'),
        (["rate=x"], "value.rate: 'x' does not fit; __u32 from 0 to 4294967295 is wanted"),
        (["class=128"], "value.class: '128' does not fit; __u32 from 0 to 127 is wanted"),
        (["{"], 'Illegal value "{": Expecting property name'),
        (["{" * 300], "Illegal value: its JSON is nested deeper than 200"),
        (['{"rate": 1}', "vlan=2"], "Illegal value byte"),
    ],
)
def test_wrong_typed_value(words: list[str], message: str) -> None:
    with pytest.raises(BpfctlError) as caught:
        element.parse_data(Tokens(words), eip(), "value")
    assert str(caught.value).startswith(message)


def test_views() -> None:
    assert element.parse_views(Tokens(["as", "mac"])) == [View("", "mac")]
    assert element.parse_views(Tokens(["as", "a.b=be16,c=hex"])) == [View("a.b", "be16"), View("c", "hex")]
    assert element.parse_views(Tokens(["mac"])) == []
    for line in (["as"], ["as", "ipv5"], ["as", "a=b=mac,"]):
        with pytest.raises(UsageError):
            element.parse_views(Tokens(line))

"""Mistakes on the command line: one line that names the word, perhaps a hint, exit status 1."""

from __future__ import annotations

import pytest
from runner import Cli

from bpfctl.uapi import AttachType, ProgramType

OBJECTS = (
    "link, qdisc, filter, action, route, nexthop, exec, prog, map, obj, bench, advise, feature, btf, "
    "completion, version"
)
PROGRAM_TYPES = ", ".join(kind.name.lower() for kind in ProgramType if kind)
ATTACH_TYPES = ", ".join(kind.name.lower() for kind in AttachType)
SPECS = "one of: obj FILE, pinned PATH, id N"
HOOKS = "in, out or xmit, and a program"
PREFIX = "ADDRESS, ADDRESS/LENGTH or default is wanted"
LENGTH = "a length from 0 to 32 is wanted"
ROUTE_COMMANDS = "add, append, prepend, change, replace, del, show"
INCOMPLETE = "Command line is not complete"

TRY = 'try "help"'
VERDICTS = "pass, ok, reclassify, drop, shot, pipe, stolen, trap, continue, jump N, goto chain N"
ACTION_KINDS = "the kind of action (bpf, gact, mirred, police)"
COOKIE = "up to 16 bytes in hex are wanted"

MISTAKES = [
    ("foo", 'Object "foo" is unknown', f"known here: {OBJECTS}"),
    ("\x1b[31m", r'Object "\x1b[31m" is unknown', f"known here: {OBJECTS}"),
    ("progs", 'Object "progs" is unknown', f"known here: {OBJECTS}"),
    ("pro", 'Object "pro" is unknown', f"known here: {OBJECTS}"),
    ("obj", INCOMPLETE, "known here: show, min-btf, check"),
    ("link add v0", 'Command "add" is unknown', "known here: set, show"),
    ("prog sho", 'Command "sho" is unknown', "known here: show, load, loadall, pin, dump, run, profile"),
    ("-x", 'Option "-x" is unknown, try "bpfctl -help"', None),
    ("-n", 'Option "-n" requires an argument', None),
    ("-batch /no/such/file", "cannot open the batch file /no/such/file: No such file or directory", None),
    ("version x", 'What is "x"?', 'try "help"'),
    ("completion csh", 'What is "csh"?', "known here: bash, zsh, fish"),
    # link set
    ("link set", f"{INCOMPLETE}: dev DEV is missing", None),
    ("link set dev", f"{INCOMPLETE}: DEV is missing", 'try "help"'),
    (
        "link set v0",
        f"{INCOMPLETE}: nothing to set on v0",
        "one of xdp, xdpgeneric, xdpdrv, xdpoffload",
    ),
    ("link set v0 xdp", f"{INCOMPLETE}: no program is named", "one of: obj FILE, pinned PATH, id N"),
    ("link set v0 xdp obj", f"{INCOMPLETE}: FILE is missing", 'try "help"'),
    ("link set v0 xdp obj x.o sec", f"{INCOMPLETE}: NAME is missing", 'try "help"'),
    ("link set v0 xdp gone", 'What is "gone"?', "known here: obj FILE, pinned PATH, id N"),
    ("link set v0 xdp id 0", 'Illegal id "0": a number from 1 is wanted', None),
    ("link set v0 v1 xdp off", 'either "dev" is duplicate, or "v1" is garbage', None),
    ("link set v0 xdp off xdpdrv off", '"xdpdrv": one XDP mode is enough, xdp came before', None),
    ("link set v0 xdp off up", '"up" is none of bpfctl\'s work', "ip link set does that"),
    (
        "link set v0 xdp bytecode 1,6",
        "bytecode: there is no classic BPF here, only in filters and actions",
        None,
    ),
    ("link set v0 xdp obj x.o maps-abi new", 'What is "new"?', "known here: iproute2, libbpf, samples"),
    # filter
    ("filter add", f"{INCOMPLETE}: dev DEV is missing", None),
    ("filter add dev v0 ingress", f"{INCOMPLETE}: the filter's kind, bpf, is missing", None),
    ("filter add dev v0 ingress bpf da", f"{INCOMPLETE}: no program is named after bpf", None),
    (
        "filter add dev v0 u32",
        'What is "u32"?',
        "known here: dev, ingress, egress, parent, handle, pref, chain, protocol, bpf",
    ),
    (
        "filter add dev v0 ingress egress",
        '"egress": the place was given before, or the word comes twice',
        None,
    ),
    (
        "filter add dev v0 pref 65536",
        'Illegal pref "65536": a number from 0 to 65535 is wanted',
        None,
    ),
    ("filter add dev v0 protocol x", 'Illegal protocol "x": a name such as ip, or a number', None),
    (
        "filter add dev v0 parent 1:g",
        'Illegal class "1:g": MAJOR:MINOR in hexadecimal, root or none',
        None,
    ),
    (
        "filter add block 3 dev v0 bpf obj x",
        '"block": a shared block has no device and no hook of its own',
        None,
    ),
    ("filter add dev v0 bpf obj x.o export", f"{INCOMPLETE}: the path of a socket is missing", 'try "help"'),
    ("filter add block x bpf", 'Illegal block "x": a number from 0 to 4294967295 is wanted', None),
    ("filter get dev v0 pref 1 bpf", f"{INCOMPLETE}: pref and handle say which filter is meant", None),
    (
        "filter add dev v0 bpf obj x.o police rate 1mbit",
        "police: rate wants a burst",
        None,
    ),
    (
        "filter add dev v0 bpf obj x.o action police rate 1furlong burst 1k",
        'Illegal rate "1furlong"',
        "such as 1mbit, 500kbit, 10mbps (bytes)",
    ),
    (
        "filter add dev v0 bpf obj x.o action police rate 1mbit burst 5000m",
        'Illegal burst "5000m"',
        "such as 1500, 10k, 1m",
    ),
    (
        "filter add dev v0 bpf obj x.o action police mtu 9k/12",
        'Illegal mtu "9k/12": after the slash a power of two is wanted',
        None,
    ),
    (
        "filter add dev v0 bpf obj x.o action drop random determ ok 10001",
        'Illegal random "10001": a number from 0 to 10000 is wanted',
        None,
    ),
    (
        "filter add dev v0 bpf obj x.o action skbedit mark 7",
        "action skbedit: not one of bpfctl's (bpf, gact, mirred, police)",
        "tc(8) itself has it",
    ),
    # actions
    ("action add", 'What is ""?', "known here: action"),
    ("action add bpf obj x", 'What is "bpf"?', "known here: action"),
    (
        "action add action",
        f"{INCOMPLETE}: the kind of action (bpf, gact, mirred, police) or a verdict is missing",
        TRY,
    ),
    ("action add action wlan pop", 'What is "wlan"?', f"known here: bpf, gact, mirred, police, {VERDICTS}"),
    ("action add action gact", f"{INCOMPLETE}: a verdict is missing", TRY),
    ("action add action drop random often ok 5", 'What is "often"?', "known here: netrand, determ"),
    ("action add action goto 7", 'What is "7"?', "known here: chain"),
    ("action add action jump x", 'Illegal jump "x": a number from 0 to 268435455 is wanted', None),
    ("action add action ok cookie 123", 'Illegal cookie "123": up to 16 bytes in hex are wanted', None),
    ("action add action ok cookie " + 17 * "00", f'Illegal cookie "{17 * "00"}": {COOKIE}', None),
    ("action add action ok index x", 'Illegal index "x": a number from 0 to 4294967295 is wanted', None),
    (
        "action add action mirred egress copy dev v0",
        'What is "egress copy"?',
        "known here: ingress or egress, then mirror or redirect",
    ),
    ("action add action mirred egress mirror v0", f"{INCOMPLETE}: dev DEV is missing", None),
    ("action add action ok ok", 'What is "ok"?', "known here: index, cookie, action"),
    ("action del action bpf", f"{INCOMPLETE}: index N is missing", None),
    ("action show", f"{INCOMPLETE}: {ACTION_KINDS} is missing", TRY),
    ("action", INCOMPLETE, "known here: add, change, replace, get, del, flush, show"),
    (
        "filter add dev v0 bpf pinned /p export y",
        "export: a loaded program's maps are not handed over",
        "those of obj FILE are",
    ),
    (
        "filter add dev v0 bpf obj x.o obj y.o",
        'What is "obj"?',
        "known here: classid, direct-action, skip_hw, skip_sw, action after the program",
    ),
    # qdisc
    ("qdisc add dev v0", f"{INCOMPLETE}: the kind, clsact, is missing", None),
    ("qdisc add dev v0 htb", 'What is "htb"?', "known here: dev DEV, clsact, ingress"),
    # route and nexthop
    ("route add", f"{INCOMPLETE}: the destination is missing", None),
    ("route get 10.0.0.1", 'Command "get" is unknown', f"known here: {ROUTE_COMMANDS}"),
    ("route add 10.9.0.0/33 dev v0", f'Illegal prefix "10.9.0.0/33": {LENGTH}', None),
    ("route add host dev v0", f'Illegal prefix "host": {PREFIX}', None),
    ("route add 10.9.0.0/16 dev v0", "a route without encap runs no program", "`ip route add` does that"),
    ("route add 10.9.0.0/16 encap", f"{INCOMPLETE}: bpf or seg6local is missing", 'try "help"'),
    (
        "route add 10.9.0.0/16 encap mpls 5",
        'encap "mpls" runs no program',
        "`ip route` knows the other tunnels",
    ),
    ("route add 10.9.0.0/16 encap bpf dev v0", f"{INCOMPLETE}: encap bpf without a program", HOOKS),
    ("route add 10.9.0.0/16 encap bpf in", f"{INCOMPLETE}: no program is named", SPECS),
    ("route add 10.9.0.0/16 encap bpf in obj x.o in obj y.o", '"in" comes twice', None),
    (
        "route add 10.9.0.0/16 encap bpf out obj x.o headroom 9",
        "headroom is for the xmit program, and there is none",
        None,
    ),
    (
        "route add 10.9.0.0/16 encap bpf xmit obj x.o headroom 0",
        "Illegal headroom: a number of bytes from 1 is wanted",
        None,
    ),
    ("route add ::1 encap seg6local endpoint obj x.o", 'What is "endpoint"?', "known here: action"),
    (
        "route add ::1 encap seg6local action End.X endpoint obj x.o",
        'seg6local action "End.X" runs no program',
        "End.BPF does",
    ),
    ("route add 10.9.0.0/16 encap bpf in obj x.o via 1.2.3.x", 'Illegal address "1.2.3.x"', None),
    ("route add 10.9.0.0/16 encap bpf in obj x.o via inet fc00::1", 'Illegal IPv4 address "fc00::1"', None),
    ("route add 10.9.0.0/16 encap bpf in obj x.o dev v0 dev v1", '"dev" comes twice', None),
    (
        "route add 10.9.0.0/16 encap bpf in obj x.o table 0",
        'Illegal table "0": tables are numbered from 1',
        None,
    ),
    (
        "route add 10.9.0.0/16 encap bpf in obj x.o scope moon",
        'Illegal scope "moon": a number up to 255, or one of global, site, link, host, nowhere',
        None,
    ),
    (
        "route add 10.9.0.0/16 encap bpf in obj x.o mtu big",
        f'Illegal mtu "big": a number from 0 to {2**32 - 1} is wanted',
        None,
    ),
    (
        "route add 10.9.0.0/16 encap bpf in obj x.o rtt 5ms",
        'What is "rtt"?',
        "known here: encap, via, dev, table, metric, src, scope, proto, tos, onlink, mtu, nexthop",
    ),
    (
        "route add 10.9.0.0/16 dev v0 nexthop encap bpf in obj x.o via 10.0.0.1",
        "via, dev, encap and onlink belong to each nexthop where there are several",
        None,
    ),
    ("route add 10.9.0.0/16 nexthop table 5", f"{INCOMPLETE}: nexthop without a way", None),
    ("nexthop add encap bpf in obj x.o dev v0", f"{INCOMPLETE}: id N is missing", None),
    ("nexthop add id 5 dev v0", "a nexthop without encap runs no program", "`ip nexthop add` does that"),
    ("nexthop add id 0", "Illegal id: a number from 1 is wanted", None),
    ("nexthop add id 5 group 1", 'What is "group"?', "known here: id, encap, via, dev, onlink, proto"),
    ("nexthop del 5", 'What is "5"?', "known here: id N"),
    # exec
    ("exec", INCOMPLETE, "known here: bpf"),
    ("exec bp", 'Command "bp" is unknown', "known here: bpf"),
    ("exec bpf", INCOMPLETE, "known here: graft, import, debug, dbg"),
    ("exec bpf graft", f"{INCOMPLETE}: MAP is missing", 'try "help"'),
    (
        "exec bpf graft m:x key one obj x.o",
        f'Illegal key "one": a number from 0 to {2**32 - 1} is wanted',
        None,
    ),
    ("exec bpf graft m:x key 1", f"{INCOMPLETE}: no program is named", SPECS),
    ("exec bpf import", f"{INCOMPLETE}: SOCKET is missing", 'try "help"'),
    ("exec bpf dbg now", 'What is "now"?', 'try "help"'),
    # references
    ("prog show 5", 'What is "5"?', "known here: id N, pinned PATH, name NAME, tag TAG"),
    ("prog show id x", 'Illegal id "x": a number from 1 is wanted', None),
    ("prog show tag 0123", 'Illegal tag "0123": 16 hex digits are wanted', None),
    ("map dump tag 0123456789abcdef", "a map has no tag: name it by id, pinned or name", None),
    ("map dump", f"{INCOMPLETE}: id, pinned, name or tag is missing", 'try "help"'),
    ("prog load x.o /p type nope", 'What is "nope"?', f"known here: {PROGRAM_TYPES}"),
    ("prog load x.o", f"{INCOMPLETE}: PATH is missing", 'try "help"'),
    ("prog loadall x.o type xdp", f"{INCOMPLETE}: DIRECTORY is missing", 'try "help"'),
    ("prog load x.o /p attach nope", 'What is "nope"?', f"known here: {ATTACH_TYPES}"),
    (
        "prog loadall x.o /p pinned /q",
        'What is "pinned"?',
        "known here: type, attach, autoattach, target, map, pinmaps, btf, verdict, "
        "sec, program, maps-abi, set, verbose, migrate, lossy, dry-run",
    ),
    (
        "prog load x.o /p target x",
        'What is "x"?',
        "known here: id N, pinned PATH, name NAME, tag TAG, function NAME",
    ),
    ("prog load x.o /p target", f"{INCOMPLETE}: a program or function is missing", 'try "help"'),
    ("prog load x.o /p map a", f"{INCOMPLETE}: id, pinned, name or tag is missing", 'try "help"'),
    (
        "prog load x.o /p map idx x id 3",
        'Illegal map number "x": a number from 0 to 4294967295 is wanted',
        None,
    ),
    ("prog load x.o /p map a tag 0123456789abcdef", "a map has no tag: name it by id, pinned or name", None),
    # objects
    ("obj show /no/such.o", "cannot read object file /no/such.o: No such file or directory (ENOENT)", None),
    ("obj show /dev/null", "cannot read object file /dev/null: not a regular file", None),
]


@pytest.mark.parametrize(("line", "message", "hint"), MISTAKES, ids=[line for line, *_ in MISTAKES])
def test_mistake(cli: Cli, line: str, message: str, hint: str | None) -> None:
    shown = cli(*line.split())
    assert (shown.status, shown.out) == (1, "")
    error, _, rest = shown.err.partition("\n")
    assert error == f"Error: {message}"
    assert rest == (f"Hint: {hint}\n" if hint else "")


def test_errors_stay_text_on_stderr_with_json(cli: Cli) -> None:
    assert cli("-j", "prog", "show", "id", "x") == cli("prog", "show", "id", "x")


@pytest.mark.parametrize("option", ["-V", "-Version", "--version", "-vers"])
def test_version(cli: Cli, option: str) -> None:
    assert cli(option) == cli("version")


def test_json_is_one_document_and_pretty_indents_it(cli: Cli) -> None:
    plain, pretty = cli("-j", "version").out, cli("-json", "-pretty", "version").out
    assert plain.startswith('{"version":"')
    assert pretty.startswith('{\n    "version": "')
    assert "".join(pretty.split()) == "".join(plain.split())

"""``police OPTION...``: a policer, behind a filter as an action or, in the old way, as a part of it.

    OPTION := { rate | avrate | peakrate } RATE | { burst | mtu | mpu } SIZE | overhead BYTES
              | linklayer { ethernet | atm | adsl } | pkts_rate N | pkts_burst N | index N
              | conform-exceed EXCEED[/CONFORM] | VERDICT

iproute2 tc/m_police.c, and tc/tc_util.c for rates and sizes.
"""

from __future__ import annotations

from bpfctl.attach.actions import ATM, CONTROLS, ETHERNET, ActionRequest, Police
from bpfctl.cli.grammar.tokens import Tokens, matches, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_U16, _U32, _U64 = 0xFFFF, 0xFFFFFFFF, (1 << 64) - 1
_RECLASSIFY = CONTROLS["reclassify"]
_VERDICTS = ("reclassify", "drop", "shot", "continue", "pass", "ok", "pipe")
_LINKLAYERS = {"ethernet": ETHERNET, "atm": ATM, "adsl": ATM}
_RATES = {"rate": "rate", "avrate": "average", "peakrate": "peakrate"}
_SIZES = {
    "burst": "burst",
    "buffer": "burst",
    "maxburst": "burst",
    "mtu": "mtu",
    "minburst": "mtu",
    "mpu": "mpu",
}
_CELLS = {"burst": "cell", "mtu": "peak_cell"}
_NUMBERS = {
    "pkts_rate": ("packet_rate", _U64),
    "pkts_burst": ("packet_burst", _U64),
    "overhead": ("overhead", _U16),
}
_CUT = ("burst", "peakrate", "pkts_rate", "pkts_burst", "overhead", "linklayer")
_KNOWN = (*_SIZES, *_RATES, *_NUMBERS, "linklayer")
_BITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BITS |= {f"{prefix}i": 1024**power for power, prefix in enumerate("kmgt", 1)}
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def parse_police(tokens: Tokens, control: Callable[[str, Tokens], int | None]) -> ActionRequest:
    """The words after ``police``; ``control`` reads a verdict, whose first word it is given."""
    start = tokens.position
    request, police = ActionRequest("police", _RECLASSIFY), Police()
    while tokens:
        word = tokens.peek()
        if tokens.take_prefix("index"):
            request = request._replace(number=tokens.number("index", _U32))
        elif name := _name(word):
            tokens.next()
            police = police._replace(**_value(name, tokens))
        elif word in _VERDICTS or word in ("goto", "jump"):
            verdict = control(tokens.next(), tokens)
            assert verdict is not None
            request = request._replace(control=verdict)
        elif tokens.take("conform-exceed"):
            exceed, slash, conform = tokens.value("EXCEED[/CONFORM]").partition("/")
            request = request._replace(control=_verdict(exceed))
            police = police._replace(result=_verdict(conform) if slash else police.result)
        else:
            break
    if tokens.position == start:
        raise unknown(tokens.peek(), ", ".join((*_KNOWN, "index", "conform-exceed", *_VERDICTS)))
    _check(police, request.number)
    return request._replace(police=police)


def _name(word: str) -> str:
    """The option that ``word``, which may be cut, begins; "" for none."""
    if word in _KNOWN:
        return word
    return next((name for name in _CUT if matches(word, name)), "")


def _value(name: str, tokens: Tokens) -> dict[str, int]:
    """The fields of Police that the value of option ``name`` sets."""
    if name in _RATES:
        return {_RATES[name]: _rate(name, tokens.value("RATE"))}
    if name in _NUMBERS:
        field, limit = _NUMBERS[name]
        return {field: tokens.number(name, limit)}
    if name == "linklayer":
        word = tokens.value("linklayer")
        if word not in _LINKLAYERS:
            raise unknown(word, ", ".join(_LINKLAYERS))
        return {"linklayer": _LINKLAYERS[word]}
    field = _SIZES[name]
    size, slash, cell = tokens.value("SIZE").partition("/")
    fields = {field: _size(name, size)}
    if slash:
        if field not in _CELLS or not cell.isdecimal() or int(cell).bit_count() != 1 or int(cell) > _U32:
            raise UsageError(
                f"Illegal {name} {shown(f'{size}/{cell}')}: after the slash a power of two is wanted"
            )
        fields[_CELLS[field]] = int(cell).bit_length() - 1
    return fields


def _rate(name: str, word: str) -> int:
    """Bytes a second, from bits: ``1mbit``, ``80kibit``; from bytes: ``10kbps``; a bare number is bits."""
    number, unit = _split(word)
    is_bytes = unit.endswith("bps")
    factor = _BITS.get(unit.removesuffix("bps" if is_bytes else "bit"))
    rate = -1.0 if number is None or factor is None else number * factor / (1 if is_bytes else 8)
    limit = _U32 if name == "avrate" else _U64
    if not 0 <= rate <= limit or (unit and unit[-3:] not in ("bps", "bit")):
        raise UsageError(f"Illegal {name} {shown(word)}", hint="such as 1mbit, 500kbit, 10mbps (bytes)")
    return int(rate)


def _size(name: str, word: str) -> int:
    """Bytes: ``10k``, ``10kb`` and ``10240`` are the same, ``80kbit`` is 10k."""
    number, unit = _split(word)
    is_bits = unit.endswith("bit") and unit != "bit"
    factor = _BYTES.get(unit.removesuffix("bit") if is_bits else unit.removesuffix("b"))
    size = -1.0 if number is None or factor is None else number * factor / (8 if is_bits else 1)
    if not 0 <= size <= _U32:
        raise UsageError(f"Illegal {name} {shown(word)}", hint="such as 1500, 10k, 1m")
    return int(size)


def _split(word: str) -> tuple[float | None, str]:
    """The number in front, None without one, and the unit in lower case."""
    unit = word.lstrip("0123456789.")
    try:
        return float(word[: len(word) - len(unit)]), unit.lower()
    except ValueError:
        return None, ""


def _verdict(word: str) -> int:
    if word not in CONTROLS:
        raise unknown(word, ", ".join(CONTROLS))
    return CONTROLS[word]


def _check(police: Police, number: int) -> None:
    """The combinations that tc(8) refuses, and for the same reasons."""
    if not (police.rate or police.average or police.packet_rate or police.mtu or number):
        wrong = "rate, avrate, pkts_rate, mtu or index is wanted"
    elif police.rate and police.average:
        wrong = "rate and avrate do not go together"
    elif police.rate and police.packet_rate:
        wrong = "rate and pkts_rate do not go together"
    elif police.rate and not police.burst:
        wrong = "rate wants a burst"
    elif bool(police.packet_rate) != bool(police.packet_burst):
        wrong = "pkts_rate and pkts_burst go together"
    elif police.peakrate and not (police.rate and police.mtu):
        wrong = "peakrate wants rate and mtu"
    else:
        return
    raise UsageError(f"police: {wrong}")

"""The meaning of values: yes and no, numbers, places, and the words by which a pick names its candidate."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.arrays import IntArray
from recurate.core.errors import InputError, counted
from recurate.log.reading.names import key
from recurate.log.reading.stored import BLANKS

YES = {
    "1", "true", "yes", "y", "t", "1.0", "x", "pass", "passed", "correct", "success", "ja", "oui", "si", "sí",
    "sim",
}  # fmt: skip
NO = {
    "0", "false", "no", "n", "f", "0.0", "fail", "failed", "incorrect", "wrong", "failure", "nein", "non",
    "não", "nee", "nej",
}  # fmt: skip
PICKED = {"chosen", "picked", "selected", "preferred", "winner", "won", "win", "best", "top", "w"}
UNPICKED = {"rejected", "loser", "lost", "lose", "loss", "shown", "other", "others", "rest", "l"}
TIES = {
    "tie", "ties", "tied", "both", "equal", "equally", "draw", "same", "neutral", "a=b", "aandb", "bothgood",
    "eithertie", "tieboth", "nopreference", "similar", "=",
}  # fmt: skip
BOTH_BAD = {"bothbad", "tiebothbad", "neither", "allbad", "noneofthem", "bad", "bothareworse", "none"}
SKIPS = {
    "", "skip", "skipped", "unsure", "dontknow", "na", "nan", "null", "idk", "unknown", "cantsay", "error",
}  # fmt: skip
ORDERS = {  # words of position, which count only for pairs
    "left": 0, "right": 1, "first": 0, "second": 1, "l": 0, "r": 1,
}  # fmt: skip
LETTERS = "abcdefgh"
TIE, BAD = -1.0, -2.0
UNIT = re.compile(r"\s*([$€£]?)\s*([+-]?\d+(?:\.\d+|,\d{1,2}(?!\d)|,\d{4,})?)\s*([%$€£]?)\s*$")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}$")
ZERO_TIES = "picks count from 1, and 0 is read as a tie (if 0 is the first, and 2 is none: --places-from 0)"
LARGEST = 1e100  # number whose squares can be summed over any log
ALPHABET = "codes follow the alphabet of the alternatives"


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Return values as an array (n,) of objects, lists included."""
    out = np.empty(len(values), object)
    out[:] = values
    return out


def with_none(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values (n,) as objects, None where ``where`` (n,) is True."""
    out = objects(values.tolist())
    out[where] = None
    return out


def array_of(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as an array (rows,): numbers with NaN for null, other values as objects."""
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_boolean(kind) and column.null_count == 0:
        return np.asarray(column.to_numpy(), float)
    if pa.types.is_integer(kind) and kind.bit_width == 64 and column.null_count:
        return objects(column.to_pylist())  # as floats, large ids would be rounded
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return np.asarray(column.to_numpy())
    return objects(column.to_pylist())


def numbers_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values (n,) of any type as numbers, NaN for values that are not numbers."""
    if values.dtype != object:
        return values.astype(float)
    out = np.full(values.size, np.nan)
    for i, value in enumerate(values):
        if isinstance(value, str) and "_" in value:
            continue  # 1_000 is a number in programs only
        try:
            out[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
    return out


def measures_of(values: NDArray[Any], *, words: bool = True) -> NDArray[np.float64]:
    """Return rewards (n,) as numbers: also ``85 %`` as 0.85 and, of words, ``pass`` and ``fail`` as 1 and 0.

    Values with and without a unit are not mixed; ``1.234 €``, which may be a thousand, is no number.

    >>> measures_of(objects(["85 %", "7,5%"])).tolist(), measures_of(objects(["pass", "fail"])).tolist()
    ([0.85, 0.075], [1.0, 0.0])
    """
    found = numbers_of(values)
    unread = unread_texts(values, found)
    if not unread.any():
        return found
    if words and not np.isfinite(found).any() and are_flags(values):
        return flags_of(values)
    parts = [UNIT.match(v) if unread[i] else None for i, v in enumerate(values)]
    units = {m[1] or m[3] for m in parts if m}
    bare = np.isfinite(found).any()
    if len(units) != 1 or sum(map(bool, parts)) <= 0.9 * unread.sum() or (bare and units != {""}):
        return found
    sure = any(m and re.search(r"\.(?!\d{3}$)", m[2]) for m in parts)  # the point is a decimal mark
    texts = [m[2] if m and (sure or not THOUSANDS.match(m[2])) else None for m in parts]
    read = numbers_of(objects([None if text is None else text.replace(",", ".") for text in texts]))
    return np.where(unread, read / 100 if units == {"%"} else read, found)


def check_size(values: NDArray[np.float64], name: str) -> None:
    """Refuse numbers whose squares, summed over a log, would overflow.

    Raises:
        InputError: one is beyond 1e100.
    """
    sizes = np.abs(np.where(np.isfinite(values), values, 0.0))
    if sizes.max(initial=0.0) > LARGEST:
        raise InputError(
            f"the column {name!r} holds numbers whose squares overflow",
            got=f"{sizes.max():.4g}",
            remedy="leave placeholders empty, or divide the column by a constant",
        )


def unread_texts(values: NDArray[Any], numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a mask (n,) of the texts that are neither empty nor among some numbers (n,)."""
    if values.dtype != object:
        return np.zeros(values.size, bool)
    texts = [isinstance(v, str) and v.strip() not in BLANKS for v in values]
    return np.array(texts, bool) & ~np.isfinite(numbers)


def steps_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return rounds (n,) as numbers, also of texts such as ``epoch 3``, ``step-100``, ``1k``; else NaN."""
    found = numbers_of(values)
    if values.dtype != object or np.isfinite(found).any():
        return found
    for i, value in enumerate(values):
        match = re.search(r"(\d+(?:\.\d+)?)\s*(k\b)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", str(value or "")))
        if match:
            found[i] = float(match[1]) * (1000 if match[2] else 1)
    return found


def blank(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask (n,) of the values that are missing: null, NaN or empty text."""
    if values.dtype == object:
        return np.array([v is None or (isinstance(v, str) and v == "") or v != v for v in values], bool)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.size, bool)


def flags_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 for yes, 0 for no and NaN for other values, shape (n,)."""
    if values.dtype != object:
        numbers = values.astype(float)
        return np.where((numbers == 0) | (numbers == 1), numbers, np.nan)
    out = np.full(values.size, np.nan)
    words = np.array(["" if v is None else str(v).strip().lower() for v in values])
    out[np.isin(words, list(YES))] = 1.0
    out[np.isin(words, list(NO))] = 0.0
    return out


def plain_text(value: Any) -> str:
    """Return a cell as a text: 1.0, as in a column with an empty cell, is 1; an empty cell is no text.

    >>> plain_text(1.0), plain_text("a"), plain_text(float("nan"))
    ('1', 'a', '')
    """
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def picked_of(values: NDArray[Any], yes: str = "") -> NDArray[np.float64]:
    """Return 1 for picked, 0 for not picked and NaN for other values, (n,); ``yes``, if any, marks picks."""
    if not yes:
        return flags_of(values)
    return np.where(blank(values), np.nan, [plain_text(v) == yes for v in values])


def are_flags(values: NDArray[Any]) -> bool:
    """Return whether at least nine in ten of the values that are there are yes or no, and both occur."""
    there = ~blank(values)
    flags = flags_of(values)[there]
    known = flags[~np.isnan(flags)]
    return known.size >= 0.9 * max(int(there.sum()), 1) and np.unique(known).size == 2


def text_of(value: Any) -> Any:
    """Return the text of a candidate: itself, or the last message's content of a chat; None if it has none.

    >>> text_of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])
    'hello'
    """
    if isinstance(value, list | tuple) and value:
        return text_of(value[-1])
    if isinstance(value, dict):
        found = next(
            (value[n] for n in ("content", "text", "value", "response", "message") if n in value), None
        )
        return text_of(found) if isinstance(found, list | tuple | dict) else found
    return value


def prompt_of(value: Any) -> str:
    """Return all messages of a chat but the answer, its last, as one text; a text is its own prompt."""
    last = value[-1] if isinstance(value, list | tuple) and value else None
    if isinstance(last, dict) and str(last.get("role", last.get("from", "assistant"))) in (
        "user",
        "human",
        "system",
    ):
        return "\n".join(str(text_of(part)) for part in value)  # no answer yet
    if isinstance(last, dict | str) and len(value) > 1:
        return "\n".join(str(text_of(part)) for part in value[:-1])
    if isinstance(value, list | tuple | dict):
        return str(value)
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Decoded:
    """Picks as places of alternatives.

    Attributes:
        places: Index of the picked alternative, (n,); -1 for a tie, -2 for "both bad", NaN if unreadable.
        notes: What was assumed.
        unclear: The two readings between which the values do not decide; empty if they decide. Where no
            option can decide, a second line says what to write instead.
        skipped: Number of values that say that nothing was picked.
    """

    places: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    unclear: str = ""
    skipped: int = 0


@dataclass
class Names:
    """The words by which a pick may name each of k alternatives.

    Attributes:
        alternatives: Names of the alternatives.
        stems: Names of their attributes, as ``output`` of ``output_1``.
        columns: Columns of the alternatives, for values that are a column's name.
        ordered: Whether the user gave the alternatives in the order of the codes.
        first: Number of the first place, if the user said it.
    """

    alternatives: Sequence[str]
    stems: Sequence[str] = ()
    columns: Sequence[Sequence[str | None]] = ()
    ordered: bool = False
    first: int | None = None
    words: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the words."""
        k = len(self.alternatives)
        found: dict[str, int] = {}
        for i, name in enumerate(self.alternatives):
            for stem in ("", "model", "response", "option", "answer", "output", "candidate", "choice", "text",
                         "assistant", "completion", *self.stems):  # fmt: skip
                found.setdefault(key(stem + name), i)
        for columns in self.columns:
            for i, column in enumerate(columns):
                if column is not None:
                    found.setdefault(key(column), i)
        if self.counted and k <= len(LETTERS) and not {key(a) for a in self.alternatives} & set(LETTERS):
            for stem in ("option", "answer", "alternative", "model", "response", *(("",) if k > 2 else ())):
                for i, letter in enumerate(LETTERS[:k]):
                    found.setdefault(key(stem + letter), i)
        if k == 2 and (self.counted or self.ordered):
            own = {key(a) for a in self.alternatives}
            for word, i in ORDERS.items():
                if not own & set(ORDERS):
                    found.setdefault(word, i)
            if not own & {"a", "b"}:
                found.setdefault("a", 0)
                found.setdefault("b", 1)
        for side in ("left", "right"):  # keys on a keyboard
            if side in found:
                found.setdefault(f"arrow{side}", found[side])
                found.setdefault(f"{side}arrow", found[side])
        self.words = {w: i for w, i in found.items() if w}

    @property
    def counted(self) -> bool:
        """Whether the alternatives are mere places: numbers, letters, or left and right."""
        return all(a.isdigit() or len(a) == 1 or a.lower() in ORDERS for a in map(_last, self.alternatives))


def _last(name: str) -> str:
    return re.split(r"[_\-. ]", name)[-1]


SCORE = re.compile(r"(\d{1,3}(?:\.5)?|1/2|½)\s*[-:–]\s*(\d{1,3}(?:\.5)?|1/2|½)$")  # 1-0, 1/2-1/2, 3:2
VERDICT = re.compile(r"\[?\[?\s*([A-Za-z0-9_]+)\s*(>>|>|<<|<|=)\s*([A-Za-z0-9_]+)\s*\]?\]?$")


def decode_words(values: NDArray[Any], names: Names) -> Decoded:
    """Return the picks that words name: names of alternatives, ``left``, ``A``, ``[[A>>B]]``, ``tie``."""
    k = len(names.alternatives)
    seen: dict[str, tuple[float, bool]] = {}
    places = np.full(values.size, np.nan)
    skipped = 0
    for i, value in enumerate(values):
        text = "" if value is None or value != value else str(value).strip()
        if text not in seen:
            seen[text] = _word(text, names.words, k)
        places[i], skip = seen[text]
        skipped += skip
    games = {re.sub(r"\s*[-:–]\s*", "-", t) for t in seen if k == 2 and SCORE.fullmatch(t)}
    if games and games <= {"1-2", "2-1"}:
        unclear = (
            "'1-2' and '2-1' may be scores, or orders with the best first\nwrite 1 and 2, or 1-0 and 0-1"
        )
        return Decoded(places, unclear=unclear, skipped=skipped)
    numbers = {t: v for t, (v, _) in seen.items() if np.isnan(v) and re.fullmatch(r"\d+(\.0)?", t)}
    notes: list[str] = []
    if numbers:  # mere digits among words, or alone
        codes = np.array([float(v) if _is_digit(v) else np.nan for v in values])
        found = decode_codes(codes, names)
        places = np.where(np.isnan(places), found.places, places)
        return Decoded(places, found.notes, found.unclear, skipped)
    own = {key(a) for a in names.alternatives}
    for pair in (("left", "right"), ("first", "second"), ("l", "r")):  # "l" beside "w" is lost, not left
        here = {key(t): t for t in seen if key(t) in pair and key(t) not in own}
        if len(here) == 1 and len(seen) > 1:
            places[np.array([v is not None and str(v).strip() in here.values() for v in values])] = np.nan
    bad = int((places == BAD).sum())
    if bad:
        notes.append(counted(bad, "{pick|picks} of 'both bad' {is read as a tie|are read as ties}"))
    return Decoded(places, tuple(notes), skipped=skipped)


def _is_digit(value: Any) -> bool:
    return (
        value is not None
        and re.fullmatch(r"\s*\d+(\.0)?\s*", str(value)) is not None
        and str(value).isascii()
    )


def _word(text: str, words: dict[str, int], k: int) -> tuple[float, bool]:
    """Return the place that a word names (NaN: none), and whether it says that nothing was picked."""
    word = key(text)
    if text.strip("[] ") == "=":
        return TIE, False
    verdict = VERDICT.fullmatch(text)
    if verdict and k == 2:
        left, sign, right = key(verdict[1]), verdict[2], key(verdict[3])
        if left in words and right in words:
            if sign == "=":
                return TIE, False
            return float(words[left] if ">" in sign else words[right]), False
    game = SCORE.fullmatch(text) if k == 2 else None
    if game:
        one, two = (0.5 if side in ("1/2", "½") else float(side) for side in game.groups())
        return TIE if one == two else float(two > one), False
    if word in words and not (word.isdigit()):
        return float(words[word]), False
    if word in TIES:
        return TIE, False
    if word in BOTH_BAD:
        return BAD, False
    return np.nan, word in SKIPS


def decode_codes(codes: NDArray[np.float64], names: Names) -> Decoded:
    """Return the picks that numbers name, counted from 1 or from 0, or by the alternatives' own numbers."""
    k = len(names.alternatives)
    if names.first is not None:
        places = codes - names.first
        return Decoded(np.where(np.isin(places, np.arange(k)), places, np.nan))
    there = codes[~np.isnan(codes)]
    found = set(np.unique(there).tolist())
    own = [float(_last(a)) if _last(a).isdigit() else np.nan for a in names.alternatives]
    notes: list[str] = []
    whole = {v for v in found if float(v).is_integer()}
    half = _halfway(found, k)
    if half is not None:  # one half way between two is a draw
        decoded = decode_codes(np.where(codes == half, np.nan, codes), names)
        ties = int((codes == half).sum())
        note = counted(ties, f"{{pick|picks}} of {half:g} {{is read as a tie|are read as ties}}")
        places = np.where(codes == half, TIE, decoded.places)
        return Decoded(places, (*decoded.notes, note), decoded.unclear, decoded.skipped)
    unclear = _scale(there, found, own, k) or _shifted(there, found, own) or _one_more(there, own, k)
    if unclear:
        return Decoded(np.full(codes.size, np.nan), unclear=unclear)
    letters = [_last(a).lower() for a in names.alternatives]
    if not names.ordered and all(len(x) == 1 and x.isalpha() for x in letters) and letters != sorted(letters):
        ordered = Names(sorted(letters), ordered=True)
        decoded = decode_codes(codes, ordered)  # codes follow the alphabet, columns may not
        place = np.array([letters.index(x) for x in sorted(letters)], float)
        inside = decoded.places >= 0
        places = np.where(inside, place[np.where(inside, decoded.places, 0).astype(int)], decoded.places)
        return replace(decoded, places=places, notes=(*decoded.notes, ALPHABET))
    if not np.isnan(own).any() and not names.ordered:
        first = own[0]
        if min(own) == 0 or {float(k)} & found or 0.0 not in found:
            # The alternatives' own numbers: output_1 is 1, image_0 is 0.
            inside = np.isin(codes, own)
            places = np.where(inside, codes - first if _consecutive(own) else _lookup(codes, own), np.nan)
            if k == 2 and min(own) == 1 and 0.0 in found:
                places = np.where(codes == 0, TIE, places)
                notes.append(ZERO_TIES)
            elif min(own) == 1 and 0.0 in found:
                notes.append("picks count from 1, and 0 is read as no pick")
            return Decoded(places, tuple(notes))
    if (
        float(k) in found
        or (found and min(found) >= 1 and there.size >= 30)
        or (found <= set(range(1, k + 1)) and max(found, default=0) == k)
    ):
        if 0.0 in found:
            notes.append(f"picks count from 1, and 0 is read as {'a tie' if k == 2 else 'no pick'}")
        places = np.where(codes == 0, TIE if k == 2 else np.nan, codes - 1)
    elif 0.0 in found:
        notes.append(
            "picks count from 0" + ("" if k > 2 else f": 0 is {_called(names, 0)}, 1 is {_called(names, 1)}")
        )
        places = codes
    else:
        listed = ", ".join(f"{v:g}" for v in sorted(whole)[:5])
        return Decoded(codes - 1, unclear=f"picks are {listed}: places counted from 0, or from 1")
    places = np.where(np.isnan(places) | (places == TIE) | np.isin(places, np.arange(k)), places, np.nan)
    return Decoded(np.asarray(places), tuple(notes))


def _halfway(found: set[float], k: int) -> float | None:
    """Return the code half way between the two of a pair, 0.5 or 1.5, if no other is broken."""
    broken = [v for v in found if not float(v).is_integer()]
    if k != 2 or len(broken) != 1 or broken[0] not in (0.5, 1.5):
        return None
    return broken[0] if found & {np.floor(broken[0]), np.ceil(broken[0])} else None


def _shifted(there: NDArray[np.float64], found: set[float], own: Sequence[float]) -> str:
    """Return what is unclear about codes below 0, or one above the alternatives' own numbers."""
    if {-1.0, 1.0} <= found and (there == -1).mean() > 0.05:
        return (
            "picks hold -1 and 1: which is the first is unknown; write 1 for the first and 2 for the second"
        )
    if not np.isnan(own).any() and own and min(own) == 0 and (there == max(own) + 1).mean() > 0.05:
        last = max(own)
        return (
            f"picks hold {last + 1:g}, and the alternatives are numbered 0 to {last:g}: places from 1 "
            "(--places-from 1), or something else"
        )
    return ""


def _one_more(there: NDArray[np.float64], own: Sequence[float], k: int) -> str:
    """Return what is unclear about codes 0 to k for k alternatives, of which 0 and k are both frequent.

    Between alternatives that are called 1 and 2, 0 is a tie, as PandaLM and others write it.
    """
    if there.size < 8 or list(own) == [1.0, 2.0] or min((there == 0).mean(), (there == k).mean()) <= 0.05:
        return ""
    return (
        f"picks are 0 to {k} and there are {k} alternatives: places from 1, and 0 is none (--places-from 1), "
        f"or places from 0, and {k} is none (--places-from 0)"
    )


MISSING_CODES = {99.0, 999.0, 98.0, 998.0, -1.0, -8.0, -9.0, -99.0, -999.0}


def _scale(there: NDArray[np.float64], found: set[float], own: Sequence[float], k: int) -> str:
    """Return what is unclear about codes many of which name no alternative, as on a scale from 1 to 5."""
    named = {v for v in own if v == v} | set(range(k + 1)) | MISSING_CODES
    odd = sorted(found - named)
    if there.size < 8 or not odd or np.isin(there, odd).mean() <= 0.1:
        return ""
    listed = ", ".join(f"{v:g}" for v in sorted(found)[:7])
    return (
        f"picks are {listed}{', ...' if len(found) > 7 else ''} and there are {k} alternatives: a scale "
        "between them, or codes; write a column with the number of the preferred one, from 1"
    )


def _called(names: Names, place: int) -> str:
    columns = [c[place] for c in names.columns if c[place]]
    return repr(columns[0]) if columns else repr(names.alternatives[place])


def _consecutive(own: Sequence[float]) -> bool:
    return bool(np.array_equal(own, np.arange(len(own)) + own[0]))


def _lookup(codes: NDArray[np.float64], own: Sequence[float]) -> NDArray[np.float64]:
    out = np.full(codes.size, np.nan)
    for place, number in enumerate(own):
        out[codes == number] = place
    return out


def soft(codes: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], str] | None:
    """Return the share of votes for the second of two, shape (n,), if values are graded; else None.

    Values in [1, 2] or in [0, 1] of which more than a few are no whole numbers are graded preferences.
    """
    there = codes[~np.isnan(codes)]
    if _halfway(set(np.unique(there).tolist()), k) is not None:
        return None
    if k != 2 or there.size < 2 or (there == np.round(there)).mean() > 0.8:
        return None
    for low in (1.0, 0.0):
        if there.min() >= low and there.max() <= low + 1:
            text = (
                f"values from {low:g} to {low + 1:g} are graded: each is a vote of that share for the second"
            )
            return codes - low, text
    return None


def odd_ranks(numbers: NDArray[np.float64], column: str) -> str:
    """Return what is unclear about ranks: with a zero they are flags or ratings, or count from 0."""
    there = numbers[~np.isnan(numbers)]
    if there.size and there.min() <= 0:
        values = ", ".join(f"{v:g}" for v in np.unique(there)[:5])
        return (
            f"{column!r} holds {values}: flags (--pick {column}), ratings of which higher is better "
            f"(--rating {column}), or ranks counted from 0 (add 1: the best has rank 1)"
        )
    return ""


def codes_of(columns: MappingType[str, NDArray[Any]], names: Sequence[str]) -> IntArray:
    """Return a number per row (rows,), from 0, the same where rows agree in all these columns that exist."""
    parts = []
    for name in names:
        if name in columns:
            values = columns[name]
            values = (
                np.array(["\0" if v is None else str(v) for v in values])
                if values.dtype == object
                else values
            )
            parts.append(np.unique(values, return_inverse=True)[1].astype(np.int64).ravel())
    out = parts[0]
    for part in parts[1:]:
        out = np.unique(out * (part.max() + 1) + part, return_inverse=True)[1].astype(np.int64).ravel()
    return np.unique(out, return_inverse=True)[1].astype(np.int64).ravel()

"""Starbucks: whether a customer who receives an offer will view it and then complete it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from examples.datasets import find
from tests.bench.foresee_sets import RECEIVED, portfolio
from tests.bench.segment import Array, Cases, Did, Genomes, common, dense, fold_of, schema_of

JUDGED: Final = (504, 576)
KNOWN_BY: Final = 504
_FIRST_HOUR: Final = 480_000
_KINDS: Final = {RECEIVED: "receive", "offer viewed": "view", "offer completed": "redeem"}
_LEAST: Final = 40
_CHANNELS: Final = ("email", "mobile", "social", "web")
_PREFIXES: Final = ("", "seen-", "got-")
_FACTS: Final = ("offer", "type", "reward", "difficulty", "duration")


def offer_dna(offer: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """An offer's DNA: id, type, reward, difficulty, duration, channels."""
    said = {
        "offer": offer["id"],
        "type": offer["offer_type"],
        **{name: f"{offer[name]:g}" for name in ("reward", "difficulty", "duration")},
    }
    names = [f"{name}:{value}" for name, value in said.items()]
    return tuple((name, 256) for name in [*names, *(f"channel:{c}" for c in offer["channels"])])


def purchase_dna(amount: float) -> tuple[tuple[str, int], ...]:
    """A purchase's DNA: that it was one, and how large."""
    return ("activity:purchase", 256), (f"spend:{int(np.log2(1 + amount))}", 256)


def cases(judged: tuple[int, ...] = JUDGED, known_by: int = KNOWN_BY) -> Cases:
    """Every receipt of an offer that can be completed. Raises DataSetMissing."""
    folder = find("starbucks_rewards")
    offers = portfolio(folder)
    events = pq.read_table(folder / "transcript.parquet").to_pylist()
    did: dict[str, list[Did]] = defaultdict(list)
    received: dict[str, list[tuple[int, str]]] = defaultdict(list)
    happened: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for event in events:
        person, hour, kind = event["person"], event["time"], event["event"]
        if kind == "transaction":
            amount = event["amount"]
            did[person].append(Did(_FIRST_HOUR + hour, "buy", purchase_dna(amount), amount))
            continue
        offer = offers[event["offer_id"]]
        did[person].append(Did(_FIRST_HOUR + hour, _KINDS[kind], offer_dna(offer)))
        happened[person, kind, offer["id"]].append(hour)
        if kind == RECEIVED and offer["offer_type"] != "informational":
            received[person].append((hour, offer["id"]))
    genomes = Genomes(schema_of(_FIRST_HOUR - 24), did)
    persons = sorted(received)
    rows: list[dict[int, float]] = []
    what: list[tuple[str, int, str]] = []
    for person in persons:
        ordered = sorted(received[person])
        hours = [_FIRST_HOUR + hour for hour, _ in ordered]
        rows += genomes.at(person, hours)
        what += [(person, hour, offer) for hour, offer in ordered]
    ends = np.array([hour + round(offers[offer]["duration"] * 24) for _, hour, offer in what])
    label = np.array(
        [
            _success(happened, person, offer, hour, end)
            for (person, hour, offer), end in zip(what, ends.tolist(), strict=True)
        ],
        float,
    )
    hour = np.array([hour for _, hour, _ in what])
    number = {offer: i for i, offer in enumerate(sorted(offers))}
    profile, cell = _profiles(folder, [person for person, _, _ in what])
    learn = ends <= known_by
    learned = [row for row, yes in zip(rows, learn.tolist(), strict=True) if yes]
    index = genomes.vocabulary.index
    meets = np.array(
        [_meets(row, offers[offer], index) for row, (_, _, offer) in zip(rows, what, strict=True)]
    )
    return Cases(
        person=np.array([person for person, _, _ in what]),
        label=label,
        learn=learn,
        judge=np.isin(hour, judged),
        fold=np.array([fold_of(person) for person, _, _ in what]),
        thing=np.array([_thing(offers[offer], number[offer]) for _, _, offer in what], float),
        profile=profile,
        genome=np.concatenate([dense(rows, common(learned, _LEAST)), meets], axis=1),
        base=np.array([number[offer] for _, _, offer in what]),
        cell=cell,
    )


def _success(
    happened: dict[tuple[str, str, str], list[int]], person: str, offer: str, hour: int, end: int
) -> bool:
    views = [at for at in happened.get((person, "offer viewed", offer), ()) if hour <= at <= end]
    done = happened.get((person, "offer completed", offer), ())
    return bool(views) and any(min(views) <= at <= end for at in done)


def _thing(offer: dict[str, Any], number: int) -> list[float]:
    kind = float(offer["offer_type"] == "bogo")
    facts = [offer[name] for name in ("reward", "difficulty", "duration")]
    return [number, kind, *facts, *(float(c in offer["channels"]) for c in _CHANNELS)]


def _meets(row: dict[int, float], offer: dict[str, Any], index: Any) -> list[float]:
    """The genome's weights of the offer's own markers, as done, as looked at, as received."""
    found = []
    for prefix in _PREFIXES:
        by_name = {name: row.get(index(prefix + name), 0.0) for name, _ in offer_dna(offer)}
        found += [sum(w for name, w in by_name.items() if name.startswith(fact)) for fact in _FACTS]
        found.append(sum(by_name.values()))
    return found


def _profiles(folder: Any, persons: list[str]) -> tuple[Array, Array]:
    """Age, gender, income, days of membership, float[n, 4]; and the segment's number, int[n]."""
    known = {row["id"]: row for row in pq.read_table(folder / "profile.parquet").to_pylist()}
    days = np.array([known[p]["became_member_on"] for p in persons], "S8").astype("U8")
    since = np.array([f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in days], "datetime64[D]").astype(float)
    age = np.array([np.nan if known[p]["age"] == 118 else known[p]["age"] for p in persons], float)
    income = np.array(
        [np.nan if known[p]["income"] is None else known[p]["income"] for p in persons], float
    )
    letters = {"F": 0, "M": 1, "O": 2, None: 3}
    gender = np.array([letters[known[p]["gender"]] for p in persons], float)
    bands = np.stack(
        [
            np.where(np.isnan(age), -1, age // 10),
            gender,
            np.where(np.isnan(income), -1, income // 20_000),
        ],
        axis=1,
    )
    _, cell = np.unique(bands, axis=0, return_inverse=True)
    return np.stack([age, gender, income, since], axis=1), cell.ravel()

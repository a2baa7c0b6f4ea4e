"""A made-up log of a hotel's lobby with a hold-out, decided by the real engine.

1,000 guests come to the lobby, most of them several times. Of those who are shown an offer 24 in
100 buy within the week after, of the others 16. Beside them are guests who come too late to have
had a week, guests for whom nothing is chosen, strangers, guests who only ever see a screen that
knows no hold-outs, and things that nobody should count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_sdk.context import Context
from edge_sdk.decision import Reason
from edge_sdk.engine.decide import coarse, decide
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.log import Committer

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
BEGIN_MS: Final = 1_780_300_800_000  # the first of June 2026
DAYS: Final = 7
PLACEMENT: Final = "lobby-screen"
GUESTS: Final = 1_000
OLD_SCREEN: Final = "old-screen"

OFFERS: Final[list[dict[str, Any]]] = [
    {"id": "taxi", "value": 3, "near": ["hotel"]},
    {"id": "spa", "value": 2, "near": ["hotel"]},
    {"id": "hello", "placements": ["nowhere"]},
]
LOBBY: Final[dict[str, Any]] = {
    "id": PLACEMENT,
    "explorer": "squarecb",
    "gamma": 10,
    "house_offer": "hello",
}


@dataclass(frozen=True)
class Happened:
    """One event of the log."""

    device: str
    subject: bytes
    kind: FrameKind
    ms: int
    event: event_pb2.Event


def number(*of: object) -> int:
    """A number below 2^32 that follows from what is said, and looks like chance."""
    text = "\n".join(map(str, of))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def guest(name: str) -> bytes:
    """The subject of a guest."""
    return hashlib.sha256(name.encode()).digest()[:16]


class Lobby:
    """Decides for guests; with hold-outs or, like older devices, without."""

    def __init__(self) -> None:
        held = {**LOBBY, "holdout": 0.2, "holdout_seed": "2026"}
        self._release = release_from_documents(OFFERS, [held])
        self._older = release_from_documents(OFFERS, [LOBBY])

    def decide(
        self, subject: bytes, ms: int, *, place: str = "hotel", device: str = "screen"
    ) -> tuple[Happened, bool]:
        """What the log has of a decision, and whether something of it was shown."""
        release = self._older if device == OLD_SCREEN else self._release
        decision, record = decide(
            release,
            Context(place=place),
            PLACEMENT,
            seed=number("seed", subject.hex(), ms),
            decision_id=guest(f"{subject.hex()} {ms}"),
            subject=subject,
            now_ms=ms,
        )
        event = event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=ms, offset_known=True),
            decision=coarse(record.to_proto()),
        )
        shown = decision.reason in (Reason.CHOSEN, Reason.EXPLORED)
        return Happened(device, subject, FrameKind.DECISION, ms, event), shown


def did(subject: bytes, kind: str, ms: int, amount: float = 0.0) -> Happened:
    """What the till says that a guest did."""
    said = event_pb2.Interaction(
        interaction_id=f"{subject.hex()}-{kind}-{ms}",
        kind=kind,
        product="ride",
        amount_micros=round(amount * 1_000_000),
        currency="EUR" if amount else "",
    )
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=ms, offset_known=True), interaction=said
    )
    return Happened("till", subject, FrameKind.INTERACTION, ms, event)


def happened() -> Iterator[Happened]:
    """Everything that happened, guest by guest."""
    lobby = Lobby()
    for n in range(GUESTS):
        one = guest(f"guest {n}")
        first = BEGIN_MS + number("first", n) % (14 * DAY_MS)
        decided, shown = lobby.decide(one, first)
        yield did(one, "buy", first - DAY_MS, 99)  # before anything could be shown
        yield decided
        for again in range(number("visits", n) % 3):
            yield lobby.decide(one, first + (again + 1) * DAY_MS)[0]
        yield did(one, "view", first + HOUR_MS)
        if number("buys", n) % 100 < (24 if shown else 16):
            for more in range(1 + number("twice", n) % 2):
                at = first + HOUR_MS + more * DAY_MS + number("when", n) % (5 * DAY_MS)
                yield did(one, "buy", at, 10 + number("much", n, more) % 1_000 / 100)
        yield did(one, "buy", first + DAYS * DAY_MS, 99)  # when the week is over
    for n in range(50):
        late = guest(f"late {n}")
        yield lobby.decide(late, BEGIN_MS + 29 * DAY_MS)[0]
        yield did(late, "buy", BEGIN_MS + 29 * DAY_MS + HOUR_MS, 99)
        elsewhere = guest(f"elsewhere {n}")
        yield lobby.decide(elsewhere, BEGIN_MS, place="office")[0]
        yield did(elsewhere, "buy", BEGIN_MS + HOUR_MS, 99)
        stranger, _ = lobby.decide(bytes(16), BEGIN_MS + n)
        yield stranger
        older = guest(f"older {n}")
        yield lobby.decide(older, BEGIN_MS, device=OLD_SCREEN)[0]
        yield did(older, "buy", BEGIN_MS + HOUR_MS, 99)
        if n < 20:
            yield lobby.decide(guest(f"guest {n}"), BEGIN_MS + 20 * DAY_MS, device=OLD_SCREEN)[0]
    yield did(guest("somebody"), "buy", BEGIN_MS + 30 * DAY_MS, 1)


def write(path: Path, what: Iterable[Happened] | None = None) -> int:
    """Write the log (or what happened elsewhere) to a new file; how many events it has."""
    events: dict[str, list[Happened]] = {}
    for one in happened() if what is None else what:
        events.setdefault(one.device, []).append(one)
    with ExitStack() as closing:
        log = closing.enter_context(Committer(path))
        for device, all_of in events.items():
            for start in range(0, len(all_of), 1_000):
                batch = list(enumerate(all_of[start : start + 1_000], start=start + 1))
                frames = b"".join(
                    encode_frame(
                        Frame(n, one.subject, one.kind, one.ms, one.event.SerializeToString())
                    )
                    for n, one in batch
                )
                digest = hashlib.sha256(frames).digest()
                log.append_batch(device, b"e" * 16, 1, batch[0][0], batch[-1][0], frames, digest)
    return sum(map(len, events.values()))

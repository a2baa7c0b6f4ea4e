"""A kiosk through a morning: nobody, a stranger, somebody who logs in, and nobody again.

    python -m examples.kiosk

The kiosk holds no genomes. Who logs in is fetched for the visit and forgotten after it;
what a stranger does counts until the stranger leaves. Everything here is synthetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from edge_sdk import Context, Decision, EdgeClient, IdentifyResult, Session
from examples.adapters import town
from examples.local_server import LocalServer, expect, parser, play
from examples.scenes import Scene

SCREEN = "kiosk-screen"
MORNING = datetime(2026, 6, 1, 9, tzinfo=UTC)
HERE = Context(cell=town.cell_at("station"), channel="kiosk", time=MORNING)
KNOWN = "customer-002"


def show(who: str, decision: Decision) -> dict[str, int]:
    """Print what the screen shows; the offers with their chances in percent, best first."""
    shown = {slot.offer.id: round(100 * slot.score) for slot in decision.slots if slot.offer}
    print(f"{who:<32} {', '.join(f'{offer} {chance} %' for offer, chance in shown.items())}")
    return shown


def stranger(visit: Session) -> dict[str, int]:
    """Somebody whom nobody knows buys books, and the screen follows."""
    before = show("a stranger comes:", visit.decide(HERE, SCREEN, 3))
    for title in ("harbour-poems", "acme-crime-novel", "acme-cookery-book"):
        visit.imprint("buy", product=title, amount=14.0, currency="EUR")
    after = show("   after buying three books:", visit.decide(HERE, SCREEN, 3))
    book = "book-of-the-month"
    expect(after.get(book, 0) > before.get(book, 0), "what a stranger does counts at once")
    return after


def story(server: LocalServer, _scene: Scene, _options: argparse.Namespace) -> None:
    """One kiosk, four visits."""
    # Visitors: no genomes in advance, but anyone who logs in may be fetched.
    server.run("audiences", "add", "visitors", "--none", "--identify", "any")
    store = server.enrol("kiosk", audience="visitors")
    token = server.run("customers", "token", KNOWN)["token"]
    with EdgeClient(store, server.address) as edge:
        expect(edge.wait_ready(30), "the kiosk has its release", str(edge.status.cause))
        expect(edge.status.genomes == 0, "the kiosk holds no genomes")
        idle = show("nobody is there:", edge.decide(HERE, SCREEN, 3))

        with edge.session() as visit:
            books = stranger(visit)
        print("   the stranger leaves; the session is wiped")

        with edge.session() as visit:
            fresh = show("another stranger:", visit.decide(HERE, SCREEN, 3))
            expect(fresh == idle != books, "nothing is left of the stranger before")
            result = visit.identify(token, timeout=5.0)
            expect(result is IdentifyResult.FETCHED, f"the log-in fetches a genome ({result})")
            mine = show(f"   logs in mid-visit ({result.name.lower()}):",
                        visit.decide(HERE, SCREEN, 3))  # fmt: skip
            expect(mine != fresh, "a known customer sees something else")
        print("   leaves; the session is wiped")

        with edge.session() as visit:
            server.kill()
            print("-- the server is killed --")
            result = visit.identify(token, timeout=1.0)
            expect(result is IdentifyResult.OFFLINE, f"nobody can be fetched now ({result})")
            again = show(f"   logs in ({result.name.lower()}):", visit.decide(HERE, SCREEN, 3))
            expect(again == idle, "nothing is left of the visit before")
        expect(show("nobody is there:", edge.decide(HERE, SCREEN, 3)) == idle, "idle as before")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything happened as told, else 1."""
    return play(story, parser("examples.kiosk", __doc__).parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())

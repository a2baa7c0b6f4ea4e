"""The whole of Genome Edge in one go, told in plain words: `make demo`.

    python -m examples.demo [--town] [--keep DIR]

A real server is started on this machine, fed, taught and asked; a device is enrolled,
cut off and reconnected. With the data sets at hand it plays in New York, else in a
synthetic town; which parts are real and which are made up is said at the beginning.
Every step checks itself: the first one that does not hold ends the demo with exit 1
and says what to do. Logs go to files; nothing but the account is printed.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk import Context, Decision, EdgeClient, EdgeError
from examples.account import Account
from examples.adapters import hotel
from examples.local_server import LocalServer, StepFailedError, expect, until
from examples.scenes import Scene, best_scene, small_town

REFUSED, BOUGHT = "not-service:taxi", "service:train"


@dataclass
class Demo:
    """One run: the server, the scene, and who tells it."""

    server: LocalServer
    scene: Scene
    tell: Account
    customers: int = 0

    def play(self) -> None:
        """All steps, in order. Raises `StepFailedError`."""
        self.introduce()
        self.data_goes_in()
        self.learn()
        self.publish()
        store = self.connect()
        with EdgeClient(store, self.server.address) as lobby:
            self.sync(lobby, store)
            self.online(lobby)
            self.offline(lobby)
            self.back(lobby)
        self.elsewhere()

    def moment(self, activity: str) -> Context:
        """The guest at the hotel's screen."""
        return Context(cell=self.scene.hotel_cell, activity=activity, channel="kiosk")

    def ask(self, edge: EdgeClient, activity: str = "flight-search") -> Decision:
        """One decision for the guest; never empty."""
        decision = edge.decide(self.moment(activity), hotel.SCREEN, customer=self.scene.guest)
        expect(decision.offer, f"the screen shows an offer, not {decision.reason}")
        expect(decision.genome_used, "the guest's genome is read", str(decision.unknown))
        return decision

    def introduce(self) -> None:
        """What this is, what is real, what is made up."""
        self.tell.title("Genome Edge: a hotel guest looks up flights, and the screen offers a taxi")
        if self.scene.instead:
            self.tell.say(
                "The real data sets are not here, so this plays in a synthetic town."
                " `python -m examples.datasets` says where they are to be had."
            )
        self.tell.listing("Real", self.scene.real or ("nothing in this run",))
        self.tell.listing("Made up", self.scene.made_up)

    def data_goes_in(self) -> None:
        """Init and import: every row is accepted or rejected, and none counts twice."""
        with self.tell.step("Customers, places, offers and what happened go into a new server"):
            self.server.run("init")
            tally = self.server.load(self.scene.measured or self.scene.files)
            self.tell.table(tally)
            self.customers = tally["customers"]["accepted"]
            for kind, counts in tally.items():
                whole = counts["accepted"] + counts["rejected"] == counts["rows"]
                expect(whole, f"{kind}: rows in = accepted + rejected, got {counts}")
                expect(counts["rejected"] == 0, f"{kind}: nothing is rejected", str(counts))
            twice = [(kind, file) for kind, file in self.scene.files if kind == "customers"]
            again = self.server.load(twice)["customers"]
            expect(again["new"] == 0, "importing a file twice changes nothing", str(again))

    def learn(self) -> None:
        """Genomes from what happened, and a model from the same; how good it is, honestly."""
        with self.tell.step("It builds everybody's genome, and learns from it what people take"):
            self.server.add_audience()
            built = self.server.run("build")
            # How good it is is measured on a fifth of the people; all five would take minutes.
            trained = self.server.run("train", "--quick", "--seed", "1")
            self.tell.say(
                f"{built['customers']:,} genomes: what each customer is known for and did, as"
                " weighted markers that fade with time."
            )
            self.tell.say(quality(trained, real=bool(self.scene.real)))
            if self.scene.real:
                tally = self.server.load(self.scene.invented)
                made = tally["interactions"]
                expect(made["accepted"] == made["rows"], "all made-up moments are accepted")
                self.server.run("build")
                self.server.run("train", "--quick", "--seed", "1")
                self.tell.say(
                    f"Then the {made['rows']:,} made-up hotel moments go in and it learns again."
                    " No rule says 'taxi': guests were shown offers at random and took what"
                    " they liked."
                )

    def publish(self) -> None:
        """One signed release."""
        with self.tell.step("Offers, places and model are signed as one release"):
            released = self.server.run("publish")
            self.tell.say(f"Release {released['version']}, {released['bytes'] / 1024:,.0f} KB.")

    def connect(self) -> Path:
        """The server runs; a device becomes one of ours."""
        with self.tell.step("The server starts, and the screen in the lobby is enrolled"):
            self.server.start()
            store = self.server.enrol("lobby")
            self.tell.say(
                "A one-time code and a key made on the screen became its credential."
                " It may hold these customers' genomes and nothing else."
            )
            return store

    def sync(self, lobby: EdgeClient, store: Path) -> None:
        """The device gets the release and the genomes."""
        with self.tell.step("The screen syncs"):
            expect(lobby.wait_ready(30), "the screen has the release", self.trouble(lobby))
            count = until(lambda: lobby.status.genomes, "the screen has the genomes")
            size = sum(file.stat().st_size for file in store.glob("genomes/*.snap"))
            silent = self.customers - count
            self.tell.say(
                f"{count:,} genomes at {size / count:.0f} bytes a customer on its disk, release"
                f" {lobby.status.release}. From now on it decides by itself."
                + (
                    f" {silent} customers did not agree: nothing of theirs is here."
                    if silent
                    else ""
                )
            )

    def online(self, lobby: EdgeClient) -> None:
        """The picture of the whole thing, and what spoke for it."""
        with self.tell.step("A guest who was never here before looks up flights"):
            if self.scene.real:
                self.tell.say(
                    "The guest is one of the survey's people, and the hotel the one where most"
                    " people checked in: both real. That they meet is made up."
                )
            decision = self.ask(lobby)
            self.tell.screen(decision)
            expect(shows(decision) == hotel.TAXI, f"the taxi is offered, not {shows(decision)}")
            carriers = decision.explain().carriers
            spoke = [one for one in carriers if one.source != "offer"][:2]
            said = ", ".join(f"{c.marker} ({100 * c.difference:+.0f} points)" for c in spoke)
            searched = spoke and spoke[0].marker == "activity:flight-search"
            expect(searched, f"it is for the flights, not {said}")
            self.tell.say(f"What weighed most: {said}.")
            # What the guest did before counts from now on, so somebody else is asked about.
            other = lobby.decide(self.moment("restaurant-search"), hotel.SCREEN)
            expect(shows(other) != hotel.TAXI, "another moment brings another offer")
            self.tell.say(f"Who looks for a restaurant is shown: {title(other)}.")
            self.tell.say(f"Time for a decision: {self.decision_time(lobby):.2f} milliseconds.")

    def trouble(self, edge: EdgeClient) -> str:
        """What a device says is wrong, and where more stands."""
        return f"{edge.status.cause or edge.status}. See the logs in {self.server.folder}"

    def decision_time(self, edge: EdgeClient, rounds: int = 300) -> float:
        """Median milliseconds of a decision, its record included.

        For a stranger: what the guest is shown is held for them, and counts for caps.
        """
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            edge.decide(self.moment("flight-search"), hotel.SCREEN)
            times.append((time.perf_counter() - start) * 1000)
        return statistics.median(times)

    def offline(self, lobby: EdgeClient) -> None:
        """The same without a server; what happens waits on the device and counts at once."""
        with self.tell.step("The server is killed, and the guest looks again"):
            expect(lobby.flush(10) == 0, "nothing is waiting before the server is killed")
            self.server.kill()
            decision = self.ask(lobby)
            self.tell.screen(decision)
            expect(shows(decision) == hotel.TAXI, f"still the taxi, not {shows(decision)}")
            lobby.report(decision, "view")
            lobby.report(decision, "dismiss")
            lobby.imprint(self.scene.guest, "buy", dna={BOUGHT: 1.0}, amount=12.0, currency="EUR")
            waiting = lobby.flush(0.5)
            expect(waiting >= 4, f"decision, view, dismissal and purchase wait, not {waiting}")
            self.tell.say(
                "This time the guest waves the taxi away and buys a train ticket at the desk."
                f" {waiting} events wait on the screen's own disk."
            )
            expect(shows(self.ask(lobby)) == hotel.TRAIN, "the next look already knows")
            self.tell.say(f"The next look already knows: {title(self.ask(lobby))}.")

    def back(self, lobby: EdgeClient) -> None:
        """Everything reaches the server once, and changes the genome there."""
        with self.tell.step("The server comes back"):
            before, logged, waiting = self.genome(), self.logged(), lobby.flush(0.5)
            self.server.start()
            until(lambda: lobby.flush(1.0) == 0, "the outbox is drained")
            arrived = self.logged() - logged
            expect(arrived == waiting, f"{waiting} events arrive, each once, not {arrived}")
            until(lambda: BOUGHT in self.genome(), "the genome at the server changes")
            fresh = sorted(set(self.genome()) - set(before))
            expect({REFUSED, BOUGHT} <= set(fresh), f"refused and bought are in it: {fresh}")
            self.tell.say(
                f"The outbox is empty: {waiting} events (the last looks among them) are in the"
                " server's log, each exactly once."
            )
            self.tell.say(
                f"New in the guest's genome there: {', '.join(fresh)} (refused, seen, bought)."
            )

    def logged(self) -> int:
        """Events in the server's log."""
        return int(self.server.run("status")["log"]["events"])

    def genome(self) -> Mapping[str, float]:
        """The guest's markers at the server."""
        shown: dict[str, float] = self.server.run("customers", "show", self.scene.guest)["genome"]
        return shown

    def elsewhere(self) -> None:
        """A device that was not there decides differently, too."""
        with self.tell.step("Another screen is enrolled, which was not there when it happened"):
            with EdgeClient(self.server.enrol("desk"), self.server.address) as desk:
                expect(desk.wait_ready(30), "it has the release", self.trouble(desk))
                until(
                    lambda: BOUGHT in (desk.genome(self.scene.guest) or ()),
                    "it has the guest's genome as it is now",
                )
                decision = self.ask(desk)
                self.tell.screen(decision)
                expect(shows(decision) == hotel.TRAIN, f"the train, not {shows(decision)}")
            self.tell.say("It learned that from the server alone.")


def shows(decision: Decision) -> str:
    """The id of the offer."""
    return decision.offer.id if decision.offer else ""


def title(decision: Decision) -> str:
    """What a person reads on the screen."""
    return decision.offer.content["title"] if decision.offer else "nothing"


def quality(trained: Mapping[str, object], *, real: bool) -> str:
    """What the model is worth, in a sentence; on people whom it has never seen."""
    auc = trained["auc_by_person"]
    assert isinstance(auc, Mapping)
    of = "the survey's people" if real else "the town's people"
    return (
        f"Asked about a fifth of {of}, whom it has not seen, the model puts a taken offer before a"
        f" refused one {100 * auc['cold']:.0f} times in 100 (AUC by person {auc['cold']:.3f};"
        f" guessing is 0.5), and {100 * auc['history']:.0f} times once it has seen some of their"
        " choices."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when every step held, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--town", action="store_true", help="play in the synthetic town")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave all files in DIR")
    options = parser.parse_args(argv)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="genome-edge-demo-"))
    server = LocalServer(folder)
    logging.basicConfig(filename=server.folder / "device.log", level=logging.INFO, force=True)
    tell, began, kept = Account(), time.monotonic(), bool(options.keep)
    try:
        expect(not server.home.exists(), f"{folder} holds a server already", "Name a new folder.")
        scene = (small_town if options.town else best_scene)(server.folder)
        Demo(server, scene, tell).play()
        tell.end(f"All of it held. {time.monotonic() - began:.0f} seconds.")
    except (StepFailedError, EdgeError) as error:
        kept = True
        tell.failed(str(error))
        return 1
    finally:
        server.kill()
        logging.shutdown()
        if kept:
            tell.say(f"Files and logs of this run: {server.folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The backend of an app that embeds the SDK: a plain ASGI application, several workers.

    python -m examples.mobile_backend

starts a server with a synthetic town and two workers of this application, asks one for
offers, and clicks until a click has landed on the other worker. To run it by itself:

    GENOME_EDGE_STORE=... GENOME_EDGE_SERVER=... uvicorn examples.mobile_backend:app --workers 2

All workers share one device store. A decision's id is valid in each of them, and later.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from edge_sdk import Context, EdgeClient, EdgeError
from examples.adapters import town
from examples.local_server import LocalServer, expect, parser, play, until
from examples.scenes import Scene

_edge: list[EdgeClient] = []


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """GET /offers?customer=&cell=&activity= and POST /outcome?decision=&slot=&kind=&event=."""
    if scope["type"] == "lifespan":
        await receive()
        _edge.append(EdgeClient())  # opens at once; store and server come from the environment
        await send({"type": "lifespan.startup.complete"})
        await receive()
        _edge.pop().close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    given = dict(parse_qsl(scope["query_string"].decode()))
    routes = {("GET", "/offers"): offers, ("POST", "/outcome"): outcome}
    answer = routes.get((scope["method"], scope["path"]))
    try:
        status, body = (200, answer(given)) if answer else (404, {"error": "no such page"})
    except (EdgeError, KeyError) as error:  # the caller's mistake: decide raises no other
        status, body = 400, {"error": str(error)}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(
        {"type": "http.response.body", "body": json.dumps({**body, "pid": os.getpid()}).encode()}
    )


def offers(given: Mapping[str, str]) -> dict[str, Any]:
    """Three offers for a moment: decided here, without a network."""
    moment = Context(cell=given.get("cell"), activity=given.get("activity"), channel="mobile")
    decision = _edge[0].decide(moment, "feed", 3, customer=given.get("customer"))
    shown = [slot.offer.id if slot.offer else None for slot in decision.slots]
    return {"decision": decision.id, "offers": shown, "ready": _edge[0].status.release > 0}


def outcome(given: Mapping[str, str]) -> dict[str, Any]:
    """What the person did with one of them, by the decision's id; on disk before we answer.

    The app names the event, so that saying it twice, to whichever worker, is saying it once.
    """
    slot = int(given.get("slot", "0"))
    made, kind, name = given["decision"], given["kind"], given.get("event")
    return {"event": _edge[0].report(made, kind, slot=slot, event_id=name, durable=True)}


def _http(method: str, url: str) -> dict[str, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as answer:
        body: dict[str, Any] = json.load(answer)
        return body


def story(server: LocalServer, _scene: Scene, _options: argparse.Namespace) -> None:
    """Two workers; the click arrives at the one that did not decide."""
    store = server.enrol("backend")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "GENOME_EDGE_STORE": str(store),
                   "GENOME_EDGE_SERVER": server.address}  # fmt: skip
    command = [sys.executable, "-m", "uvicorn", "examples.mobile_backend:app", "--workers", "2",
               "--port", str(port), "--log-level", "warning"]  # fmt: skip
    with (server.folder / "workers.log").open("wb") as log:
        workers = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        ask = f"{here}/offers?customer=customer-001&cell={town.cell_at('cafe')}&activity=walk"

        def answered() -> dict[str, Any] | None:
            try:
                answer = _http("GET", ask)
            except OSError:
                return None
            return answer if answer["ready"] else None

        made = until(answered, "the workers answer", hint=f"See {server.folder / 'workers.log'}")
        expect(made and all(made["offers"]), "three offers")
        print(f"worker {made['pid']} decided: {', '.join(made['offers'])}")

        taps: list[int] = []

        def elsewhere() -> dict[str, Any] | None:
            click = f"{here}/outcome?decision={made['decision']}&slot=1&kind=click&event=tap-1"
            answer = _http("POST", click)
            taps.append(answer["pid"])
            return answer if answer["pid"] != made["pid"] else None

        clicked = until(elsewhere, "a click lands on the other worker")
        print(f"worker {clicked['pid']} took the click on slot 1: event {clicked['event']}")

        def clicks() -> int:
            return int(server.run("status")["log"]["outcomes"].get("click", 0))

        logged = until(clicks, "the click is in the server's log")
        expect(logged == 1, f"a click sent {len(taps)} times is one click, not {logged}")
        times = "once" if len(taps) == 1 else f"{len(taps)} times"
        print(f"the click was sent {times} and is in the server's log once")
    finally:
        workers.terminate()
        workers.wait(20)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything happened as told, else 1."""
    return play(story, parser("examples.mobile_backend", __doc__).parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())

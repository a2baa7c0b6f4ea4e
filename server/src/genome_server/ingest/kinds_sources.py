"""What can be imported of further sources; see `genome_server.ingest.kinds`.

Loyalty schemes, social networks and communities, pages and visits of a site, and which ids are one
person.
"""

from __future__ import annotations

from typing import Final

from genome_server.ingest.kind import kind_of
from genome_server.ingest.terms import (
    Schema,
    dna,
    field,
    free,
    id_,
    list_,
    number,
    text,
    time,
    whole,
)
from genome_server.ingest.visits import PAGES

_WHEN: Final = "2026-03-01T18:05:00+01:00"


def _source(says: str = "Whose id it is; `app` if left out.", example: str = "app") -> Schema:
    return text(
        says,
        example,
        pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
        **{"x-expected": "lower-case letters, digits and hyphens"},
    )


LOYALTY: Final = kind_of(
    "loyalty",
    "Loyalty: how a customer stands in a loyalty scheme. The newest row of a customer replaces the "
    "ones before it; one that is older than what is known changes nothing.",
    ["customer", "at"],
    {
        "customer": id_("The customer's id.", "c-1001"),
        "source": _source(),
        "tier": text("Becomes the marker `tier:…`, which never fades.", "gold", maxLength=120),
        "points": whole(
            "Becomes the marker `points:…` of the step that they reach: 0, 100, 200, 500, 1000, "
            "2000, 5000 and so on.",
            1250,
            0,
            10**12,
        ),
        "at": time("When this was so.", "2026-03-01T09:30:00+01:00"),
    },
)

SIGNALS: Final = kind_of(
    "signals",
    "Signals: what a customer said or did about something in a network or a community. It becomes "
    "an interaction of the kind `endorse`, or `criticise` where the sentiment is negative.",
    ["customer", "time"],
    {
        "signal_id": id_("Makes it count once. Left out, it is made from the row.", "post-5531"),
        "customer": id_("The customer's id.", "c-1001"),
        "source": _source(),
        "topic": list_(
            "What it is about; each becomes a marker `topic:…`.",
            {"type": ["string", "integer"], "maxLength": 120},
            "espresso",
            "fair-trade",
        ),
        "brand": text("The brand it is about; becomes `brand:…`.", "Acme", maxLength=120),
        "community": text(
            "The group in which it was said; becomes `community:…`.", "home-baristas", maxLength=120
        ),
        "dna": dna("Further markers of what it is about.", "claim:organic"),
        "sentiment": number(
            "From -1 (against it) to 1 (all for it). The markers get its size as salience, at "
            "least a quarter; without it, a half.",
            0.8,
            -1,
            1,
        ),
        "engagement": whole(
            "How much there was of it: likes, shares, answers. Each doubling of 1 + engagement "
            "adds a quarter to the salience.",
            15,
            0,
            10**9,
        ),
        "platform": text(
            "Where it was said; becomes the channel of the moment, `channel:…`.",
            "social-network",
            maxLength=120,
        ),
        "time": time("When it was, local time with its offset.", _WHEN),
    },
)

BROWSING: Final = kind_of(
    "browsing",
    "Browsing: the pages of a site or app in the order in which a customer looked at them, one row "
    "for each. It becomes an interaction of the kind `browse`, or `click`. At most one of product, "
    "offer, content and dna.",
    ["customer", "session", "step", "time"],
    {
        "customer": id_("The customer's id.", "c-1001"),
        "source": _source(),
        "session": id_("The visit; with `step` it makes a row count once.", "visit-881"),
        "step": whole("The page's number in the visit.", 3, 0, 10**9),
        "action": field(
            "string",
            "What was done: looked at a page (browse, if left out), or followed what was shown "
            "(click).",
            "browse",
            enum=["browse", "click"],
        ),
        "product": id_("The product on the page.", "p-espresso"),
        "offer": id_("The offer on the page.", "taxi-to-airport"),
        "content": id_("The page itself, by its id among contents.", "mail-spring"),
        "dna": dna("The DNA of the page, where it is none of them.", "category:coffee"),
        "dwell_ms": whole(
            "How long the page was looked at, in milliseconds.", 42_000, 0, 86_400_000_000
        ),
        "channel": text("Web, app …; `web` if left out.", "app", maxLength=120),
        "context": free(
            "What else there was: activity, campaign …; each becomes a marker of the moment.",
            {"activity": "gift-search", "referrer": "newsletter"},
        ),
        "time": time("When the page was opened, local time with its offset.", _WHEN),
    },
    alternatives=(("product",), ("offer",), ("content",), ("dna",)),
)

VISITS: Final = kind_of(
    "visits",
    "Visits: the click sequences of a site or app, one row for each visit once it has ended. It "
    "becomes an interaction of the kind `visit`, and what the order of its pages says becomes "
    "markers `path:…` and `visit:…`.",
    ["customer", "session", "pages", "time"],
    {
        "customer": id_("The customer's id.", "c-1001"),
        "source": _source(),
        "session": id_("The visit; it makes a row count once.", "visit-881"),
        "pages": list_(
            "The kinds of the pages, in order: "
            + "; ".join(f"`{name}` ({says})" for name, says in PAGES.items())
            + ".",
            {"type": "string", "enum": list(PAGES)},
            "campaign",
            "search",
            "product",
            "search",
            "product",
            "basket",
            minItems=1,
            maxItems=1000,
            **{"x-expected": "a list of 1 to 1000 pages"},
        ),
        "dwell_ms": whole("How long it took, in milliseconds.", 312_000, 0, 86_400_000_000),
        "channel": text("Web, app …; `web` if left out.", "app", maxLength=120),
        "context": free(
            "What else there was: activity, campaign …; each becomes a marker of the moment.",
            {"activity": "gift-search", "referrer": "newsletter"},
        ),
        "time": time("When it began, local time with its offset.", _WHEN),
    },
)

LINKS: Final = kind_of(
    "links",
    "Links: which ids are one person, said outright (`other`) or by what they share (`key`). The "
    "latest word on two ids counts, and of two at one moment the one that keeps them apart.",
    ["customer", "at"],
    {
        "customer": id_("An id of the person.", "c-1001"),
        "source": _source(),
        "other": id_("Another id of the same person.", "card-77"),
        "other_source": _source("Whose id the other is; `app` if left out.", "loyalty"),
        "key": {
            **text(
                "What the ids of one person share: an e-mail address, a card's number. Only a "
                "keyed hash of it is kept.",
                "anna@example.org",
                minLength=3,
                maxLength=320,
            ),
            "x-private": True,
        },
        "key_kind": text(
            "What kind of key it is; keys of different kinds are different. E-mail addresses "
            "(`email`) are compared without regard to case.",
            "email",
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            **{"x-expected": "lower-case letters, digits and hyphens"},
        ),
        "linked": field(
            "boolean",
            "Whether it is so; true if left out. False undoes a link, or takes a key back.",
            True,
        ),
        "at": time("Since when it is so.", _WHEN),
    },
    alternatives=(("other", "other_source"), ("key", "key_kind")),
)

SOURCES: Final = (LOYALTY, LINKS, SIGNALS, BROWSING, VISITS)
"""What is imported after products and customers, in this order."""

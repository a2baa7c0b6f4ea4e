"""What can be imported of content: e-mails and pages; see `genome_server.ingest.kinds`."""

from __future__ import annotations

from typing import Final

from genome_server.ingest.kind import kind_of
from genome_server.ingest.terms import WORD, dna, free, id_, list_, text

CONTENTS: Final = kind_of(
    "contents",
    "Content: e-mails, pages, posts. Their DNA is what their texts say, and that of the products "
    "they show; who opens one is imprinted with it.",
    ["id"],
    {
        "id": id_("Your id of the content.", "mail-spring"),
        "subject": text("The subject of an e-mail, the title of a page.", "Organic spring teas"),
        "body": text(
            "Its text, or what its creative says; tags of HTML are passed over.",
            "Fair trade green tea, 20 % off this week",
            maxLength=65_536,
        ),
        "products": list_("The products that it shows, by their ids.", WORD, "p-espresso"),
        "attributes": free(
            "Each becomes a marker `name:value`; a list gives one marker each.",
            {"occasion": "spring"},
        ),
        "dna": dna(
            "Further markers with their salience; one that is given here wins over the same "
            "marker from elsewhere.",
            {"marker": "mood:calm", "salience": 0.5},
        ),
    },
)

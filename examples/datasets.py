"""Where the real data sets are. One function, `find`, for everything here.

None of the sets belongs to this project and none is copied into it: they are
read where they lie, and never written to. `find` looks, in this order, at

    $GENOME_EDGE_DATA/<name>
    ../shared/data/<name>          beside the checkout
    ~/.cache/genome-edge/data/<name>

and otherwise raises `DataSetMissing`, which says where the set is to be had.
The layouts in which the publishers give the sets are read as well as ours.

    python -m examples.datasets    lists what is found, and whether it is the copy we know
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


class DataSetMissing(LookupError):
    """A data set is nowhere that `find` looks; the text says how to get it."""


@dataclass(frozen=True)
class DataSet:
    """What is known of a set: whose it is, and the SHA-256 of the files tested with."""

    name: str
    title: str
    source: str
    terms: str
    files: Mapping[str, str]
    # The file as its publisher names it, where that can be read instead of ours.
    published: str = ""


def _known(*sets: DataSet) -> Mapping[str, DataSet]:
    return MappingProxyType({each.name: each for each in sets})


KNOWN = _known(
    DataSet(
        name="uci_coupon",
        title="In-vehicle coupon recommendation (Wang et al., JMLR 2017)",
        source="UCI Machine Learning Repository, data set 603"
        " (https://archive.ics.uci.edu/dataset/603)",
        terms="CC BY 4.0",
        files={"coupons.csv": "66cb2a3c88b6f7c3a64628e0410467953ec5d5e45df93393f769b02a496881e6"},
        published="in-vehicle-coupon-recommendation.csv",
    ),
    DataSet(
        name="foursquare_nyc",
        title="Foursquare check-ins in New York, 2012-04 to 2013-02 (Yang et al., 2015)",
        source="Dingqi Yang's page 'Foursquare Dataset', NYC and Tokyo check-ins"
        " (doi:10.1109/TSMC.2014.2327053)",
        terms="research use; redistribute nothing",
        files={
            "checkins.parquet": "e892efd383f961194dd690a72197875775bf342fa8b01831ffb5b34f192ed59d"
        },
        published="dataset_TSMC2014_NYC.txt",
    ),
    DataSet(
        name="openflights",
        title="Airports with places and time zones",
        source="OpenFlights, 'Airport database' (https://openflights.org/data.php)",
        terms="ODbL 1.0",
        files={"airports.csv": "a0c1448e4a7bdf0c593589d178266eddb3f92a04df7abbf15833adcdb65f6550"},
        published="airports.dat",
    ),
    DataSet(
        name="starbucks_rewards",
        title="Simulated rewards programme: offers received, viewed, completed",
        source="the Starbucks capstone of Udacity's Data Scientist programme",
        terms="no open licence stated: for study; redistribute nothing",
        files={
            "portfolio.jsonl": "928a02da21961a9dd464a3000ef84af147efbe0101a7547425c6abe795ab9309",
            "profile.parquet": "d5f9ee77ee5150eefb91cc4b7341ca23847ad30785911ed0f914ab9e735d7148",
            "transcript.parquet": (
                "8d61c7ae77eb97fb51430361717e5d7bc5ea9faf7a8d1584da861dccfe7b50e7"
            ),
        },
    ),
    DataSet(
        name="complete_journey",
        title="A grocer's year of transactions, campaigns and coupons",
        source="dunnhumby 'The Complete Journey', as packaged by completejourney (CRAN)",
        terms="CC0",
        files={
            "products.parquet": "ec8d96461d9500748c127758268b3cd253637ddd0b9b17d1dadfc960072d5f17",
            "transactions_sample.parquet": (
                "9c8c05bbff54b054c84466841319d77dd928c711fd71c4a34ec43bf61578c21e"
            ),
            "coupons.parquet": "d327ebd10dd8d471f61589e1ed5def9e41cdf2895f0a0bb04c7b4f0d5ec82f18",
            "coupon_redemptions.parquet": (
                "20472b0ced9ba0b9b737d2bb54d38d6ab80aac39472dd02a65eba75aae95d0b0"
            ),
        },
    ),
    DataSet(
        name="open_bandit",
        title="Open Bandit Dataset: logged decisions with true propensities (Saito et al., 2020)",
        source="ZOZO Research (https://research.zozo.com/data.html)",
        terms="CC BY 4.0",
        files={
            "men_random.parquet": (
                "290fa2a1ca45bb81d9cb566cbf8fd0b9244d3db1f698d26835171b873ffa486d"
            ),
            "men_bts.parquet": "e2526b9a24641c97b631dc20a8ce363375246d01d13e61c767aee43850f83d8e",
            "men_items.parquet": "86448877d090d13cba9ec6d9932bfabb4460896011871d1cf3fbc49b50d20a21",
        },
    ),
)


def search_path() -> list[Path]:
    """The folders in which `find` looks for `<name>/`, best first."""
    places = []
    if given := os.environ.get("GENOME_EDGE_DATA"):
        places.append(Path(given).expanduser())
    places.append(Path(__file__).resolve().parents[2] / "shared" / "data")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    places.append(Path(cache).expanduser() / "genome-edge" / "data")
    return places


def find(name: str, *, places: Sequence[Path] | None = None) -> Path:
    """The folder that holds the data set `name`, whole.

    Raises `KeyError` for a name that nobody knows, and `DataSetMissing` with
    the way to get the set where it is in none of `places` (default: `search_path()`).
    """
    known = KNOWN[name]
    looked = list(search_path() if places is None else places)
    for place in looked:
        folder = place / name
        if known.published and (folder / known.published).is_file():
            return folder
        if all((folder / file).is_file() for file in known.files):
            return folder
    raise DataSetMissing(_how_to_get(known, looked))


def _how_to_get(known: DataSet, looked: Sequence[Path]) -> str:
    files = "\n".join(f"    {file}  sha256 {digest}" for file, digest in known.files.items())
    published = f" (or {known.published}, as published)" if known.published else ""
    return (
        f"the data set {known.name!r} is not here: {known.title}\n"
        f"  get it from: {known.source}\n"
        f"  terms: {known.terms}\n"
        f"  put it into <folder>/{known.name}/ in one of: {', '.join(map(str, looked))}\n"
        f"  files{published}; checksums of the copies that this was tested with:\n{files}\n"
        "  nothing else needs it: the synthetic town (python -m examples.demo --town) works without"
    )


def same_copy(name: str, folder: Path) -> bool:
    """Whether every file in `folder` is byte for byte the one that this was tested with."""
    return all(
        (folder / file).is_file()
        and hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
        for file, digest in KNOWN[name].files.items()
    )


def main(argv: Sequence[str] | None = None) -> int:
    """List the sets: exit 0 when all are found, 1 when some are missing."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.datasets", description="Which real data sets are at hand."
    )
    parser.parse_args(argv)
    missing = 0
    for name in KNOWN:
        try:
            folder = find(name)
        except DataSetMissing as error:
            missing += 1
            print(f"{name}: missing\n  {error}")
            continue
        copy = "the copy tested with" if same_copy(name, folder) else "another copy"
        print(f"{name}: {folder} ({copy})")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

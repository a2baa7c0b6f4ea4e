"""One training of a tenant on disk, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from genome_server.cli import cli
from genome_server.errors import Refused
from genome_server.learning.export import model_facts
from genome_server.learning.job import run_training
from genome_server.learning.towers import Shape
from genome_server.learning.train import Settings
from genome_server.models.shelf import current_model, model_id
from genome_server.store.protocol import CONSENT_LEARNING
from tests.unit._genomes import NOW_MS, Happened, House, interaction

QUICK = Settings(shape=Shape(members=1, width=8, hidden=4, dimension=2), steps=40, epochs=5)


def answers(persons: int, each: int) -> list[Happened]:
    rng = np.random.default_rng(3)
    events = []
    for who in range(1, persons + 1):
        for number in range(each):
            offer = ("taxi", "spa")[int(rng.integers(0, 2))]
            flight = rng.random() < 0.5
            yes = rng.random() < (0.85 if flight == (offer == "taxi") else 0.2)
            events.append(
                interaction(
                    who,
                    number * 3,
                    "buy" if yes else "dismiss",
                    offer=offer,
                    context_markers=[f"activity:{'flight' if flight else 'none'}", "once:only"][
                        : 2 if who == number == 1 else 1
                    ],
                )
            )
    return events


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "tenants" / "test")
    with closing(made):
        yield made


def with_answers(house: House, persons: int = 30, each: int = 8) -> House:
    for who in range(1, persons + 1):
        house.customer(who, CONSENT_LEARNING if who > 2 else 0)
    house.log(answers(persons, each))
    house.build()
    return house


def test_a_model_comes_out_with_its_figures(house: House) -> None:
    with_answers(house)
    report = run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS)
    assert report.counts.examples == 28 * 8
    assert report.counts.without_consent == 16
    assert report.parity.probes == 512
    assert report.parity.max_difference <= 1e-5
    found = current_model(house.tenant.models_dir, house.store)
    assert found is not None
    assert found.id == report.model_id == model_id(found.content)
    facts = model_facts(found.content)
    vocabulary = house.store.vocabulary()
    assert facts["vocabulary_lineage"] == vocabulary.lineage.hex()
    assert int(facts["vocabulary_size"]) == len(vocabulary)
    assert int(facts["trained_ms"]) == max(e.hours for e in answers(30, 8)) * 3_600_000 + 5 + (
        490_000 * 3_600_000
    )
    data = report.to_json()
    assert data["model"] == report.model_id
    assert data["auc_by_person"]["cold"] == data["evaluation"]["by_person"]["cold"]["auc"]
    assert found.report["auc_by_person"] == data["auc_by_person"]
    assert found.report["examples"]["examples"] == 224
    assert "activity:flight" in vocabulary, "markers of moments get an index once they are frequent"
    assert "once:only" not in vocabulary
    # Again: the same log, the same model.
    assert run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS).model_id == report.model_id


def test_too_little_is_refused_with_what_there_is_and_what_is_needed(house: House) -> None:
    with_answers(house, persons=5, each=4)
    with pytest.raises(Refused, match=r"12 examples \(\d+ successes, \d+ failures\) of 3 persons"):
        run_training(house.tenant, QUICK, now_ms=NOW_MS)
    with pytest.raises(Refused, match="needed are 50 examples with 10 of each kind, of 10 persons"):
        run_training(house.tenant, QUICK, now_ms=NOW_MS)
    with pytest.raises(Refused, match="8 of 2 persons who did not agree to learning"):
        run_training(house.tenant, QUICK, now_ms=NOW_MS)
    assert current_model(house.tenant.models_dir, house.store) is None


def test_what_was_too_little_is_not_gone_by_when_there_is_more(house: House) -> None:
    with_answers(house, persons=5, each=4)
    with pytest.raises(Refused, match="too little to learn from"):
        run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS)
    for who in range(6, 31):
        house.customer(who, CONSENT_LEARNING)
    house.log([event for event in answers(30, 8) if event.who > 5])
    house.build()
    report = run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS + 3_600_000)
    assert report.counts.examples == 3 * 4 + 25 * 8
    assert not report.resumed


def test_what_has_to_come_first_is_said(house: House) -> None:
    with pytest.raises(Refused, match="import interactions"):
        run_training(house.tenant, QUICK)
    house.log(answers(1, 1))
    with pytest.raises(Refused, match="genome-server build"):
        run_training(house.tenant, QUICK)


def test_a_damaged_model_is_not_taken(house: House) -> None:
    with_answers(house)
    report = run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS)
    folder = house.tenant.models_dir / report.model_id
    (folder / "report.json").unlink()
    found = current_model(house.tenant.models_dir, house.store)
    assert found is not None
    assert found.report == {"id": report.model_id}
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(Refused, match="damaged"):
        current_model(house.tenant.models_dir, house.store)
    (folder / "model.onnx").unlink()
    with pytest.raises(Refused, match="holds no model"):
        current_model(house.tenant.models_dir, house.store)


def test_the_command_prints_both_splits(house: House) -> None:
    with_answers(house)
    home = ["--home", str(house.dir.parent.parent), "--tenant", "test"]
    done = CliRunner().invoke(cli, ["train", "--quick", *home])
    assert done.exit_code == 0, done.output
    for said in ("AUC by person", "AUC, random split", "calibration error", "16 of 2 persons"):
        assert said in done.output
    found = current_model(house.tenant.models_dir, house.store)
    assert found is not None
    assert f"Model {found.id}" in done.output
    assert f"{found.report['auc_by_person']['cold']:.3f} (" in done.output
    assert found.report["settings"]["teaching"]["trees"] == 0, "nothing teaches a quick one"


def test_the_command_refuses_with_a_sentence(house: House) -> None:
    home = ["--home", str(house.dir.parent.parent), "--tenant", "test"]
    done = CliRunner().invoke(cli, ["train", *home])
    assert done.exit_code == 1
    assert "error: nothing has happened yet" in done.output

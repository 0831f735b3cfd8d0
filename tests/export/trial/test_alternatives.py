"""What a contract might say instead: one thing at a time, stated as lines of contract.yaml."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import yaml

from posert.export.trial.alternatives import (
    Alternative,
    best_order,
    exchanged,
    lines,
    of_flip_test,
    of_input,
    of_outputs,
    reordered,
)
from posert.runtime.bundle.contract import Contract
from posert.runtime.pose.heads import head

PERSON = Contract(
    "five", ("nose", "left_eye", "right_eye", "left_paw", "right_paw"), ((1, 2), (3, 4)), ((0, 1), (2, 4)),
    (0.1, 0.2, 0.2, 0.3, 0.3), 192, 256, 48, 64,
)  # fmt: skip
VECTORS = replace(PERSON, decode="simcc", heatmap_width=384, heatmap_height=512)


def every(contract: Contract) -> list[Alternative]:
    return [*of_input(contract), *of_outputs(contract), *of_flip_test(contract, contract.flip_pairs)]


@pytest.mark.parametrize("contract", [PERSON, VECTORS, replace(PERSON, udp=True, heatmap_udp=False)])
def test_lines_state_the_alternative(contract: Contract) -> None:
    """A user who writes the lines into contract.yaml gets the contract that was tried."""
    for alternative in every(contract):
        changed = yaml.safe_load("\n".join(lines(contract, alternative.contract)))
        written = Contract.from_values({**contract.to_json(), **changed}, "contract.yaml")
        for field in fields(Contract):
            wanted, found = getattr(alternative.contract, field.name), getattr(written, field.name)
            if field.name in ("mean", "std", "padding"):
                assert found == pytest.approx(wanted, rel=1e-5)
            else:
                assert found == wanted, alternative.words


def test_no_alternative_is_the_contract_or_another_one() -> None:
    for contract in (PERSON, VECTORS, replace(PERSON, mean=(0.0,) * 3, std=(1.0,) * 3, padding=1.0)):
        contracts = [alternative.contract for alternative in every(contract)]
        assert contract not in contracts and len({str(c) for c in contracts}) == len(contracts)


def test_only_rules_that_read_the_same_outputs_are_tried() -> None:
    for contract in (PERSON, VECTORS, replace(PERSON, decode="udp_combined")):
        rules = [a.contract.decode for a in of_outputs(contract) if a.kind == "decoding"]
        assert rules and all(head(rule).shapes(contract) == head(contract.decode).shapes(contract) for rule in rules)
    assert [a.contract.decode for a in of_outputs(VECTORS) if a.kind == "decoding"] == ["simcc_dark"]


def test_vectors_are_never_moved() -> None:
    assert [a.kind for a in of_flip_test(VECTORS, VECTORS.flip_pairs)] == []
    assert [a.contract.flip_shift for a in of_flip_test(PERSON, PERSON.flip_pairs)] == [False]


def test_reordered_renames_what_the_indices_mean() -> None:
    order = (3, 0, 4, 2, 1)
    found = reordered(PERSON, order)

    def named(c: Contract, pairs: tuple[tuple[int, int], ...]) -> set[frozenset[str]]:
        return {frozenset(c.keypoints[k] for k in pair) for pair in pairs}

    assert found.keypoints == ("left_paw", "nose", "right_paw", "right_eye", "left_eye")
    assert dict(zip(found.keypoints, found.sigmas, strict=True)) == dict(
        zip(PERSON.keypoints, PERSON.sigmas, strict=True)
    )
    for pairs in ("flip_pairs", "skeleton"):
        assert named(found, getattr(found, pairs)) == named(PERSON, getattr(PERSON, pairs))


def test_exchanged_changes_names_alone_where_limbs_are_alike() -> None:
    symmetric = replace(PERSON, skeleton=((0, 1), (0, 2)))
    alternative = exchanged(symmetric)
    assert alternative is not None
    assert lines(symmetric, alternative.contract) == ("keypoints: [nose, right_eye, left_eye, right_paw, left_paw]",)
    assert exchanged(replace(PERSON, flip_pairs=())) is None


def test_best_order() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(6)
    distance = rng.uniform(0.1, 0.2, (6, 6))
    distance[np.arange(6), order] = 0.02
    assert best_order(distance) == tuple(order)
    distance[:, order[2]] = np.nan  # a label that is on nobody
    assert [best_order(distance)[k] for k in (0, 1, 3, 4, 5)] == [order[k] for k in (0, 1, 3, 4, 5)]


def test_joints_that_lie_together_keep_their_order() -> None:
    distance = np.array([[0.050, 0.049, 0.2], [0.049, 0.050, 0.2], [0.2, 0.2, 0.01]])
    assert best_order(distance) == (0, 1, 2)

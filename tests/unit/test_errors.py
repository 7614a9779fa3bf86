from __future__ import annotations

import pytest

from besom.errors import BesomError, InputError, near


def test_a_misspelt_word_gets_the_nearest_names_best_first():
    assert near("admw", ["adam", "adamw", "sgd"]) == "; did you mean 'adamw' or 'adam'?"


def test_a_word_like_no_other_gets_all_names_in_order():
    assert near("xyz", ["sgd", "adam"]) == "; choose one of: adam, sgd"


def test_a_name_known_twice_is_shown_once():
    assert near("xyz", ["sgd", "sgd"]) == "; choose one of: sgd"


def test_a_long_list_of_names_is_not_shown():
    assert near("xyz", [f"name{number}" for number in range(31)]) == ""


def test_a_near_name_is_found_in_a_long_list():
    assert "'name7'" in near("nam7", [f"name{number}" for number in range(31)])


def test_nothing_known_gives_no_hint():
    assert near("xyz", []) == ""


@pytest.mark.parametrize(("error", "code"), [(BesomError, 1), (InputError, 2)])
def test_wrong_input_has_an_exit_code_of_its_own(error, code):
    assert error.exit_code == code

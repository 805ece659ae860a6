"""Passwords are kept as slow hashes, and checking them neither stops the server nor lets anybody guess fast."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from flightserver.access import passwords
from flightserver.access.passwords import PasswordCheck, hash_password, verify
from flightserver.errors import InvalidRequest, Overloaded, Unauthenticated

RIGHT = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(RIGHT)
"""Of parameters that cost little; a hash carries its own."""
STRONG = hash_password(RIGHT)


class Ticks:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hashes_computed(check: PasswordCheck, name: str, text: str) -> bool:
    """Whether an attempt was checked against the hash: that one can't be checked while no turn is free."""
    with passwords._turns, passwords._turns:
        waiting = threading.Thread(target=check.is_right, args=(name, HASH, text))
        waiting.start()
        waiting.join(0.2)
        must_wait = waiting.is_alive()
    waiting.join()
    return must_wait


def guess(check: PasswordCheck, number: int, *, name: str = "alice") -> None:
    """So many different wrong passwords, whatever is said to them."""
    for each in range(number):
        try:
            assert not check.is_right(name, HASH, f"wrong password {each}")
        except Unauthenticated as error:
            assert "Too many" in error.message  # noqa: PT017  # both outcomes are right here


def test_a_hash_is_argon2id_with_the_parameters_of_rfc_9106() -> None:
    assert re.fullmatch(r"\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", STRONG)


def test_nobodys_hash_costs_what_other_hashes_cost() -> None:
    assert passwords.NOBODYS_HASH.split("$")[:4] == STRONG.split("$")[:4]
    assert [len(part) for part in passwords.NOBODYS_HASH.split("$")] == [len(part) for part in STRONG.split("$")]
    assert not verify(passwords.NOBODYS_HASH, RIGHT)


def test_only_the_password_that_was_hashed_is_right() -> None:
    assert verify(STRONG, RIGHT)
    assert not verify(STRONG, RIGHT + " ")
    assert not verify(STRONG, "")
    assert not verify(STRONG, RIGHT + "x" * 2000)
    assert not verify("no hash", RIGHT)


def test_a_known_hash_of_the_reference_implementation_is_understood() -> None:
    """`echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -e`; also in src/test.c of phc-winner-argon2."""
    known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

    assert (verify(known, "password"), verify(known, "Password")) == (True, False)


def test_letters_are_the_same_however_a_keyboard_composes_them() -> None:
    assert verify(hash_password("pa\u0308sswort"), "p\u00e4sswort")


@pytest.mark.parametrize("text", ["", "seven77", "x" * 1025, "ä" * 513, "half \ud800 of a pair"])
def test_a_password_that_is_too_short_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="at least 8 characters and at most 1024 bytes"):
        hash_password(text)


def test_a_right_password_is_remembered_for_a_while() -> None:
    ticks = Ticks()
    check = PasswordCheck(300, ticks=ticks)
    assert check.is_right("alice", HASH, RIGHT)

    ticks.now += 299
    remembered = not hashes_computed(check, "alice", RIGHT)
    ticks.now += 1
    checked_again = hashes_computed(check, "alice", RIGHT)

    assert (remembered, checked_again) == (True, True)


def test_zero_seconds_remember_nothing() -> None:
    check = PasswordCheck(0)
    assert check.is_right("alice", HASH, RIGHT)

    assert hashes_computed(check, "alice", RIGHT)


def test_what_is_remembered_is_of_one_user_and_one_hash() -> None:
    check = PasswordCheck(300, ticks=Ticks())
    assert check.is_right("alice", HASH, RIGHT)

    assert not check.is_right("alice", hash_password("another password"), RIGHT)
    assert not check.is_right("alice", "", RIGHT)
    assert hashes_computed(check, "bob", RIGHT)


def test_what_can_be_no_password_is_wrong_without_being_checked() -> None:
    check = PasswordCheck(300, ticks=Ticks())

    assert not hashes_computed(check, "alice", "x" * 2000)
    assert not check.is_right("alice", HASH, "x" * 2000)


def test_who_guesses_is_told_to_wait_and_may_try_again_a_minute_later() -> None:
    ticks = Ticks()
    check = PasswordCheck(300, ticks=ticks)
    guess(check, 5)

    ticks.now += 15
    with pytest.raises(Unauthenticated, match="Try again in 45 seconds, or use a bearer or API token"):
        check.is_right("alice", HASH, RIGHT)
    ticks.now += 45

    assert check.is_right("alice", HASH, RIGHT)


def test_guessing_one_name_keeps_no_other_out() -> None:
    check = PasswordCheck(300, ticks=Ticks())
    guess(check, 6)

    assert check.is_right("bob", HASH, RIGHT)


def test_a_name_that_no_user_has_is_treated_as_any_other() -> None:
    check = PasswordCheck(300, ticks=Ticks())
    for number in range(5):
        assert not check.is_right("nobody", "", f"wrong password {number}")

    with pytest.raises(Unauthenticated, match="Try again in 60 seconds"):
        check.is_right("nobody", "", "wrong password 5")


def test_repeating_one_wrong_password_keeps_nobody_out_and_costs_nothing() -> None:
    """A program with the password of last month."""
    check = PasswordCheck(300, ticks=Ticks())
    assert not check.is_right("alice", HASH, "last month's password")

    assert not hashes_computed(check, "alice", "last month's password")
    for _ in range(1000):
        assert not check.is_right("alice", HASH, "last month's password")
    assert check.is_right("alice", HASH, RIGHT)


def test_who_is_logged_in_goes_on_while_others_guess() -> None:
    check = PasswordCheck(300, ticks=Ticks())
    assert check.is_right("alice", HASH, RIGHT)

    guess(check, 50)

    assert check.is_right("alice", HASH, RIGHT)


def test_guesses_against_remembered_passwords_are_limited_as_well() -> None:
    """Looking up what is remembered takes microseconds, so that a thousand guesses a second would be possible."""
    ticks = Ticks()
    check = PasswordCheck(300, ticks=ticks)
    assert check.is_right("alice", HASH, RIGHT)

    guess(check, 1000)
    with pytest.raises(Unauthenticated, match="Too many different passwords"):
        check.is_right("alice", HASH, RIGHT)

    ticks.now += 60
    assert check.is_right("alice", HASH, RIGHT)


def test_guesses_that_come_at_once_are_limited_like_those_that_come_one_by_one() -> None:
    check = PasswordCheck(300, ticks=Ticks())

    def outcome(number: int) -> str:
        try:
            return str(check.is_right("alice", HASH, f"wrong password {number}"))
        except Unauthenticated:
            return "refused"

    with ThreadPoolExecutor(40) as pool:
        outcomes = list(pool.map(outcome, range(40)))

    checked = outcomes.count("False")
    assert 5 <= checked <= 6, "two are checked at a time, so that one may begin while the fifth is being checked"
    assert outcomes.count("refused") == 40 - checked


def test_a_login_that_waited_for_its_turn_uses_what_another_found_out_meanwhile() -> None:
    """A thousand clients of one user that start at once cost two checks."""
    check = PasswordCheck(300, ticks=Ticks())

    with ThreadPoolExecutor(2) as pool:
        with passwords._turns, passwords._turns:
            first, second = (pool.submit(check.is_right, "alice", HASH, RIGHT) for _ in range(2))
            with pytest.raises(TimeoutError):
                first.result(0.2)
            # Somebody found the right password wrong, which only who doesn't check it again can repeat.
            check._note(check._mac(b"alice"), check._mac(b"alice", HASH.encode(), RIGHT.encode()), is_right=False)

        assert (first.result(), second.result()) == (False, False)


def test_no_more_than_two_hashes_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_WAIT_SECONDS", 0.05)

    with passwords._turns:
        assert verify(HASH, RIGHT)
        with passwords._turns:
            with pytest.raises(Overloaded, match="checks 2 passwords at a time"):
                verify(HASH, RIGHT)
            with pytest.raises(Overloaded):
                hash_password(RIGHT)
    assert verify(HASH, RIGHT)


def test_what_is_remembered_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_MAX_REMEMBERED", 2)
    monkeypatch.setattr(passwords, "_MAX_NAMES", 2)
    check = PasswordCheck(300, ticks=Ticks())

    for name in ("first", "second", "third"):
        assert check.is_right(name, HASH, RIGHT)
        assert not check.is_right(name, HASH, "a wrong password")

    assert (len(check._remembered), len(check._wrong)) == (2, 2)
    assert hashes_computed(check, "first", RIGHT)


def test_nothing_that_was_typed_is_kept() -> None:
    check = PasswordCheck(300, ticks=Ticks())
    check.is_right("alice", HASH, RIGHT)
    check.is_right("bob", HASH, "a wrong password")

    kept = repr(vars(check))

    assert not [word for word in ("alice", "bob", "correct", "wrong password", HASH) if word in kept]

# SPDX-License-Identifier: Apache-2.0
"""Whatever asks a process to stop is handled as Ctrl-C, once."""

import signal
import subprocess
import sys
import threading

import pytest

from edgegen.algorithms import stop_signals
from edgegen.algorithms.stop_signals import children_spared, noting_stops, own_handlers_kept, stopping_as_ctrl_c

ASKING = ["SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU"]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that stands still until it is set; nothing has been received yet."""

    class Clock:
        now_s = 1000.0

        def monotonic(self):
            return self.now_s

    made = Clock()
    monkeypatch.setattr(stop_signals, "time", made)
    monkeypatch.setattr(stop_signals, "_last_s", -float("inf"))
    return made


def receive(name):
    signal.raise_signal(signal.Signals[name])


@pytest.mark.parametrize("name", ["SIGINT", *ASKING])
def test_every_signal_interrupts_as_ctrl_c_does(name):
    with pytest.raises(KeyboardInterrupt), stopping_as_ctrl_c():
        receive(name)


@pytest.mark.parametrize("name", ["SIGINT", *ASKING])
def test_every_signal_is_noted_where_work_is_to_be_finished(name):
    with noting_stops() as request:
        assert not request.asked
        receive(name)
        assert request.asked


def test_handlers_are_put_back():
    before = {name: signal.getsignal(signal.Signals[name]) for name in ("SIGINT", *ASKING)}
    with noting_stops():
        assert all(signal.getsignal(signal.Signals[name]) != handler for name, handler in before.items())
    assert {name: signal.getsignal(signal.Signals[name]) for name in before} == before


@pytest.mark.parametrize("second", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_a_second_signal_interrupts_at_once(clock, second):
    with noting_stops() as request:
        receive("SIGTERM")
        clock.now_s += 2
        with pytest.raises(KeyboardInterrupt):
            receive(second)
    assert request.asked


@pytest.mark.parametrize(("first", "echo"), [("SIGHUP", "SIGHUP"), ("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGHUP")])
def test_the_same_request_may_come_twice(clock, first, echo):
    # A closing terminal asks through the shell and through the kernel; timeout asks the process and its group.
    with noting_stops():
        receive(first)
        clock.now_s += 0.2
        receive(echo)


def test_a_request_is_noted_even_right_after_another_one():
    with noting_stops():
        receive("SIGTERM")
    with noting_stops() as request:
        receive("SIGTERM")
        assert request.asked


def test_an_end_after_a_warning_is_the_first_request(clock):
    # Slurm's --signal=USR1@60: the job is warned, and a minute later asked to end.
    with noting_stops() as request:
        receive("SIGUSR1")
        assert request.asked
        clock.now_s += 60
        receive("SIGTERM")
        clock.now_s += 2
        with pytest.raises(KeyboardInterrupt):
            receive("SIGTERM")


def test_what_was_ignored_at_the_start_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with noting_stops() as request:
            receive("SIGHUP")
            assert not request.asked
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_background_job_that_ignores_ctrl_c_is_ended_by_the_others():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts with &
    try:
        with pytest.raises(KeyboardInterrupt), stopping_as_ctrl_c():
            receive("SIGTERM")
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_libraries_do_not_keep_the_handlers():
    with stopping_as_ctrl_c():
        before = signal.getsignal(signal.SIGTERM)
        with own_handlers_kept():
            for name in ("SIGTERM", "SIGINT", "SIGUSR1"):  # Ray takes the first, its Tune the others
                signal.signal(signal.Signals[name], lambda *_: None)
        assert signal.getsignal(signal.SIGTERM) == before
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_library_keeps_its_handler_where_nobody_had_one():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with own_handlers_kept():
            signal.signal(signal.SIGTERM, handler := lambda *_: None)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with noting_stops() as request, own_handlers_kept():
            seen.append((request.asked, signal.getsignal(signal.SIGTERM) == before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_children_do_not_hear_of_a_closing_terminal_but_this_process_does():
    program = "import signal; signal.raise_signal(signal.SIGHUP); signal.raise_signal(signal.SIGUSR1); print('alive')"
    with noting_stops() as request:
        with children_spared():
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
            signal.raise_signal(signal.SIGHUP)
            asked_inside = request.asked
        assert (asked_inside, request.asked) == (False, True)
    assert done.stdout.strip() == "alive"

# SPDX-License-Identifier: Apache-2.0
"""The time line of an episode as a picture: a row for every site, a column for every policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgegen.platform.canvas import drawing, new_figure, save
from edgegen.platform.files import PNG
from edgegen.platform.runs.episode import Episode, Played

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SITES = 40
"""Most rows of a picture; what the first sites do stands for the others."""

_TIMELY, _LATE, _REFUSED, _LOAD, _BACKLOG = "#2a9d8f", "#e8590c", "#9c36b5", "#8d99ae", "#4c6ef5"
_PALE, _PALE_LATE = "#cfe8e5", "#f8cdb6"  # of the steps that were not made
_HIGH = 0.42  # of blocks in a row of height 1; the backlog is above them
_BASE, _ROOM = 0.48, 0.44


def plot_episode(episode: Episode, path: Path) -> list[Path]:
    """Draw :func:`episode_figure` and write it as PNG.

    Returns:
        The file written.

    Raises:
        InputError: If it can not be written.
    """
    return save(episode_figure(episode), path, endings=(PNG,))


@drawing
def episode_figure(episode: Episode) -> Figure:
    """Draw what every site does over time, and the cloud.

    Blocks are requests, as high as the share of the steps that they got; grey ones are loads. The line above is the
    backlog, on one scale for all sites.
    """
    first = episode.played[0].record
    sites = min(len(first.sites), MOST_SITES)
    figure = new_figure(6.2 * len(episode.played), 1.3 + 0.42 * (sites + 1))
    axes_of = figure.subplots(1, len(episode.played), sharex=True, sharey=True, squeeze=False)[0]
    scale_s = max(_longest_s(one) for one in episode.played)
    for axes, played in zip(axes_of, episode.played, strict=True):
        for site in range(sites):
            _draw_site(axes, played, site, sites - site, scale_s)
        _draw_cloud(axes, played)
        late = float(np.mean(played.record.served["late"]))
        utility = float(np.mean(played.record.served["utility"]))
        axes.set_title(f"{played.label}: mean utility {utility:.3f}, {100 * late:.1f} % late", fontsize=10)
        axes.set_xlabel("time (s)")
        axes.set_xlim(0, max(one.record.end_s for one in episode.played))
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    names = [first.names[site] if first.names else f"site {site}" for site in reversed(range(sites))]
    axes_of[0].set_yticks(np.arange(sites + 1) + 0.3, ["cloud", *names])
    axes_of[0].set_ylim(-0.1, sites + 1)
    figure.suptitle(
        f"{episode.scenario.name}, episode {episode.number}, seed {episode.seed}", x=0.01, ha="left", fontsize=11
    )
    _legend(axes_of[0], episode, scale_s)
    return figure


def _longest_s(played: Played) -> float:
    queues = played.record.queues
    return float((queues["free_s"] - queues["at_s"]).max(initial=1e-9))


def _draw_site(axes: Axes, played: Played, site: int, row: int, scale_s: float) -> None:
    """Draw a site between the heights ``row`` and ``row + 1``."""
    record = played.record
    served, at_s = record.served, record.arrivals["arrival_s"]
    axes.axhline(row, color="0.85", linewidth=0.6, zorder=0)
    here = served["site"] == site
    begun_s = (at_s + served["wait_s"] + served["load_s"])[here]
    share = np.minimum(served["steps"] / record.arrivals["asked"], 1)[here]
    colours = np.where(served["late"][here], _LATE, _TIMELY)
    length_s = served["generation_s"][here]
    _blocks(axes, begun_s, length_s, np.ones(len(share)), row, np.where(served["late"][here], _PALE_LATE, _PALE))
    _blocks(axes, begun_s, length_s, share, row, colours)
    loads = record.loads["site"] == site
    load_s = (record.loads["done_s"] - record.loads["begun_s"])[loads]
    _blocks(axes, record.loads["begun_s"][loads], load_s, np.ones(len(load_s)), row, np.full(len(load_s), _LOAD))
    refused = (served["site"] > len(record.sites)) & (record.arrivals["home"] == site)
    axes.plot(at_s[refused], np.full(refused.sum(), row + 0.1), "x", color=_REFUSED, markersize=3)
    time_s, backlog_s = _backlog(played, site)
    axes.plot(time_s, row + _BASE + _ROOM * backlog_s / scale_s, color=_BACKLOG, linewidth=0.7)


def _blocks(
    axes: Axes, begun_s: np.ndarray, length_s: np.ndarray, share: np.ndarray, row: int, colours: np.ndarray
) -> None:
    """Draw blocks of some shares of the full height, at the foot of a row."""
    axes.bar(begun_s, share * _HIGH, length_s, row, align="edge", color=colours, linewidth=0.2, edgecolor="white")


def _draw_cloud(axes: Axes, played: Played) -> None:
    """Draw how many requests are on their way to the cloud or in it, between the heights 0 and 1."""
    record = played.record
    here = record.served["site"] == len(record.sites)
    begin_s = record.arrivals["arrival_s"][here]
    end_s = begin_s + record.served["delay_s"][here]
    time_s = np.concatenate([[0.0], begin_s, end_s])
    order = np.argsort(time_s, kind="stable")
    number = np.concatenate([[0], np.ones(len(begin_s)), -np.ones(len(end_s))])[order].cumsum()
    axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axes.fill_between(time_s[order], 0.85 * number / max(number.max(), 1), step="post", color=_TIMELY, linewidth=0)
    most = f"up to {int(number.max())} at once"
    axes.annotate(most, (record.end_s, 0.1), ha="right", fontsize=7, color="0.4")


def _backlog(played: Played, site: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a site's backlog: times, and what is left to do then, s."""
    queues = played.record.queues
    own = queues["site"] == site
    at_s, free_s = queues["at_s"][own], queues["free_s"][own]
    left_s = np.maximum(np.concatenate([[0.0], free_s[:-1]]) - at_s, 0)[: len(at_s)]  # just before
    idle_s = np.minimum(free_s, np.append(at_s[1:], np.inf))  # worked off by then, or more came
    time_s = np.stack([at_s, at_s, idle_s], axis=1).ravel()
    backlog_s = np.stack([left_s, free_s - at_s, free_s - idle_s], axis=1).ravel()
    return np.append(0.0, time_s), np.append(0.0, backlog_s)


def _legend(axes: Axes, episode: Episode, scale_s: float) -> None:
    for colour, label in ((_TIMELY, "in time"), (_LATE, "late"), (_LOAD, "load of a model")):
        axes.bar(0, 0, color=colour, label=label)
    if any((one.record.served["site"] > len(one.record.sites)).any() for one in episode.played):
        axes.plot([], [], "x", color=_REFUSED, markersize=3, label="refused, at its home")
    axes.plot([], [], color=_BACKLOG, label=f"backlog, at most {scale_s:.1f} s")
    axes.figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=8)

"""A film club whose members' tastes are known, because we wrote them.

`film_club`, `ClubTruth`, `SCALE`.

Each member and each film is a point in a plane that the table of ratings does not contain; a member
likes what lies in her direction. Who rates what is not left to chance: popular films are rated by
many, and members see what they will like. Used in the chapter *collaborative*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from glassbox.checks import whole

__all__ = ["SCALE", "ClubTruth", "film_club"]

SCALE = (0.5, 5.0)
"""The lowest and the highest rating; ratings are whole or half stars."""

_RANGE = (0.0, 5.5)  # what a sigmoid can reach: a little more than the scale on either side
_GENRES = {  # gravity from light to grave, spectacle from quiet to loud
    "Drama": (1.2, -0.2),
    "War": (0.75, 0.6),
    "Adventure": (-0.6, 0.65),
    "Comedy": (-1.2, -0.1),
    "Romance": (-0.5, -0.6),
    "Documentary": (0.6, -0.65),
}
_FIRST = (
    *("Amber", "Borrowed", "Crooked", "Distant", "Eleventh", "Folded", "Green", "Hollow"),
    *("Idle", "Jade", "Known", "Lost", "Midnight", "Narrow", "Open", "Patient", "Quiet"),
    *("Restless", "Second", "Tall", "Unsent", "Velvet", "Wandering", "Younger"),
)
_SECOND = (
    *("Alphabet", "Bridge", "Cartographer", "Daughter", "Engine", "Ferry", "Garden", "Harbour"),
    *("Island", "Journey", "Kitchen", "Letter", "Mountain", "Neighbour", "Orchard", "Parade"),
    *("Quarry", "River", "Staircase", "Tailor", "Umbrella", "Village", "Winter", "Zeppelin"),
)
_MEAN, _USER_BIAS, _ITEM_BIAS = 0.3, 0.3, 0.35  # in logits, as are the tastes
_TASTE = 0.6  # deviation of a member's taste along each axis
_HARSH = 0.4  # how much harsher, in deviations of the bias, those are who like grave films
_SELECTION = 1.2  # how much more often a member rates what she will like, in log odds a logit
_NOISE = 0.6  # standard deviation of a rating around its mean, in stars, before it is rounded
_FEWEST = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClubTruth:
    """What made the ratings of a simulated film club.

    A mean rating is a sigmoid, from 0 to 5.5 stars, of ``mean`` + the member's bias + the film's
    bias + the dot product of their points.
    """

    mean: float
    """In logits, as the biases and the dot product are."""
    members: pd.DataFrame
    """Indexed by userId: ``gravity``, ``spectacle``, ``bias``."""
    films: pd.DataFrame
    """Indexed by movieId: ``gravity``, ``spectacle``, ``bias``, ``title``, ``genres``."""
    expected: Floats
    """For each row of the table, the mean rating in stars."""
    noise: float
    """Standard deviation of a rating around its mean, in stars, before it is rounded and cut."""

    def expected_for(self, user_ids: ArrayLike, movie_ids: ArrayLike) -> Floats:
        """Return the mean ratings in stars of pairs, rated or not.

        Parameters
        ----------
        user_ids, movie_ids : arrays of int, shape (n,)

        Raises
        ------
        ValueError
            If an id is not in the club, or there are not as many of the one as of the other.
        """
        ids = np.asarray(user_ids), np.asarray(movie_ids)
        if ids[0].shape != ids[1].shape or ids[0].ndim != 1:
            raise ValueError(
                "user_ids and movie_ids must have one shape (n,), but they have "
                f"{ids[0].shape} and {ids[1].shape}."
            )
        points, biases = [], []
        named = zip(("user_ids", "movie_ids"), ids, (self.members, self.films), strict=True)
        for name, wanted, table in named:
            place = table.index.get_indexer(wanted)
            if (place < 0).any():
                raise ValueError(
                    f"{name} must be ids of the club, but one is {wanted[place < 0][0]}."
                )
            points.append(table[["gravity", "spectacle"]].to_numpy()[place])
            biases.append(table["bias"].to_numpy()[place])
        return _stars(self.mean + sum(biases) + (points[0] * points[1]).sum(1))


def film_club(
    num_members: int = 500, num_films: int = 200, seed: int = 0
) -> tuple[pd.DataFrame, ClubTruth]:
    """Return the ratings of a simulated film club, in the form of MovieLens, and what made them.

    How light or grave and how quiet or loud a film is follows its genre, with room for exceptions.
    Members differ in what they like, in how generous they are (those who like grave films are
    harsher), and in how much they see; each rates at least 20 films, or all there are.

    Parameters
    ----------
    num_members : int
        At least 2.
    num_films : int
        From 6, one of each genre, to 576.
    seed : int
        The same arguments give the same table.

    Returns
    -------
    table : DataFrame
        A row for each rating, in no order: ``userId``, ``movieId``, ``rating`` (0.5 to 5 by
        halves), ``title``, ``genres`` (one). Ids are whole numbers with gaps.
    truth : ClubTruth

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    whole("num_members", num_members, 2)
    whole("num_films", num_films, len(_GENRES), len(_FIRST) * len(_SECOND))
    whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    films = _films(rng, num_films)
    tastes = rng.normal(0, _TASTE, (num_members, 2))
    harsh = -_HARSH * tastes[:, 0] / _TASTE
    generosity = harsh + np.sqrt(1 - _HARSH**2) * rng.normal(size=num_members)
    members = pd.DataFrame(
        {"gravity": tastes[:, 0], "spectacle": tastes[:, 1], "bias": _USER_BIAS * generosity},
        index=pd.Index(_ids(rng, num_members), name="userId"),
    )
    liking = tastes @ films[["gravity", "spectacle"]].to_numpy().T
    # A few films are seen by many, and good ones by more: the long tail of every such table.
    fame = rng.normal(0, 1.0, num_films) + 0.8 * films["bias"].to_numpy() / _ITEM_BIAS
    member, film = _who_rates_what(rng, fame + _SELECTION * liking)
    logits = _MEAN + members["bias"].to_numpy()[member] + films["bias"].to_numpy()[film]
    expected = _stars(logits + liking[member, film])
    rating = np.clip(np.round(2 * rng.normal(expected, _NOISE)) / 2, *SCALE)
    table = pd.DataFrame(
        {
            "userId": members.index.to_numpy()[member],
            "movieId": films.index.to_numpy()[film],
            "rating": rating,
            "title": films["title"].to_numpy()[film],
            "genres": films["genres"].to_numpy()[film],
        }
    )
    return table, ClubTruth(_MEAN, members, films, expected, _NOISE)


def _stars(logits: Floats) -> Floats:
    low, high = _RANGE
    stars: Floats = low + (high - low) / (1 + np.exp(-logits))
    return stars


def _ids(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return different whole numbers in order, with gaps, as a table has that has lost rows."""
    return np.sort(rng.choice(np.arange(1, 10 * count + 1), count, replace=False))


def _films(rng: np.random.Generator, count: int) -> pd.DataFrame:
    genre = rng.permutation(np.arange(count) % len(_GENRES))
    points = np.array(list(_GENRES.values()))[genre] + rng.normal(0, 0.25, (count, 2))
    # Their mean is 0, so that a film's bias is what the average member thinks of it.
    points -= points.mean(0)
    first, second = np.divmod(rng.permutation(len(_FIRST) * len(_SECOND))[:count], len(_SECOND))
    titles = [f"The {_FIRST[i]} {_SECOND[j]}" for i, j in zip(first, second, strict=True)]
    return pd.DataFrame(
        {
            "gravity": points[:, 0],
            "spectacle": points[:, 1],
            "bias": rng.normal(0, _ITEM_BIAS, count),
            "title": titles,
            "genres": np.array(list(_GENRES), dtype=object)[genre],
        },
        index=pd.Index(_ids(rng, count), name="movieId"),
    )


def _who_rates_what(
    rng: np.random.Generator, log_weights: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the members and of the films of all ratings, in a random order.

    Each member draws films without replacement, with chances in proportion to the weights: those
    with the highest log weight plus Gumbel noise.
    """
    num_members, num_films = log_weights.shape
    how_many = _FEWEST + np.exp(rng.normal(3.0, 1.0, num_members)).astype(np.int64)
    how_many = np.minimum(how_many, max(min(_FEWEST, num_films), num_films // 2))
    order = np.argsort(-(log_weights + rng.gumbel(size=log_weights.shape)), axis=1)
    member, place = np.nonzero(np.arange(num_films) < how_many[:, None])
    shuffled = rng.permutation(len(member))
    return member[shuffled], order[member, place][shuffled]

"""What was written about the book's own data and models: the texts of `glassbox.datasheets`.

`SHEETS`, `CARDS`. Run as a program, it makes the page of the appendix::

    python -m glassbox.sheets book/appendix/datasheets.md

A new data set or model is not finished before it has an entry here; a test holds the registry
against `SHEETS`, and the page of the appendix against both.
"""

from __future__ import annotations

import sys
from pathlib import Path

from glassbox.datasheets import DataSheet, ModelCard, page

__all__ = ["CARDS", "SHEETS"]

_OURS = "The authors of this book; errors are reported as issues of its repository."
_FREE = "Made by a function of the library, under its licence (Apache 2.0)."

SHEETS: dict[str, DataSheet] = {
    "digits": DataSheet(
        "Handwritten digits of scikit-learn, and their enlargement",
        motivation="Collected by E. Alpaydin and C. Kaynak at Bogazici University for research on "
        "combining classifiers. The book uses them because scikit-learn carries them, so that a "
        "reader needs no network; `digits()` enlarges them to stand in for MNIST.",
        composition="1,797 pictures of 8×8 pixels with 17 levels of grey, each with the digit that "
        "was to be written. They come from 13 people, of whom nothing is recorded: neither "
        "who wrote which digit, nor age, hand or schooling. Enlarged: 12,000, 2,100 and 2,079 "
        "pictures of 28×28 pixels.",
        collection="People filled in a printed form. This is the part that served for testing; "
        "another 30 people wrote the part for training, which scikit-learn does not carry. How "
        "those people were found and what they agreed to is not documented.",
        preprocessing="Scanned and normalised with programs of NIST, then counted in blocks of "
        "4×4. The enlargement sharpens, turns, stretches, slants and bends each original several "
        "times and splits by original, so that no copy crosses from training to test. A writer "
        "may be in both.",
        uses="Learning and quick comparisons. Not a basis for statements about handwriting: "
        "thirteen writers are no sample of anybody, and the variety of the enlarged pictures is "
        "what our distortions made it.",
        distribution="With scikit-learn and from the UCI Machine Learning Repository.",
        maintenance="The UCI repository for the originals; for the enlargement, the authors of "
        "this book.",
    ),
    "python-reference": DataSheet(
        "The Python language reference",
        motivation="Written by Python's developers to document the language. The book uses it as "
        "a long text that every installation carries.",
        composition="About half a million characters of English with examples of code. It is "
        "about no person, though examples contain invented names.",
        collection="The part that the interpreter's `help()` shows, joined in alphabetical order "
        "of its topics. It changes a little with every version of Python.",
        preprocessing="None.",
        uses="Learning to model characters. A model of it imitates the style of a manual; it does "
        "not know Python.",
        distribution="With every Python.",
        maintenance="The Python Software Foundation.",
    ),
    "photographs": DataSheet(
        "Photographs that scikit-image installs",
        motivation="Gathered by scikit-image's developers for examples and tests.",
        composition="Twelve pictures of different sizes, among them a portrait of the astronaut "
        "Eileen Collins and one of a man with a camera; a cat, coins, stones, grass, the "
        "moon. No labels.",
        collection="Chosen for being free to use. The portrait is an official one of NASA, a "
        "public person in office.",
        preprocessing="Read as RGB, brought to numbers from 0 to 1.",
        uses="To show what an operation does to a picture. Twelve pictures are no test set, and "
        "two people stand for nobody.",
        distribution="With scikit-image, each public domain or CC0.",
        maintenance="scikit-image.",
    ),
    "mnist": DataSheet(
        "MNIST",
        motivation="Made by Y. LeCun, C. Cortes and C. Burges of two collections of the American "
        "standards institute NIST, so that training and test set would come from like "
        "writers. The book uses it because the lessons do.",
        composition="70,000 pictures of 28×28 pixels with 256 levels of grey, ten classes of about "
        "equal size. The writers are employees of the Census Bureau and high-school students "
        "in the United States; nothing else is recorded of them in these files.",
        collection="On printed forms. The training set has digits of about 250 writers, and "
        "no writer is in both sets.",
        preprocessing="Brought to 20×20 pixels keeping the proportions, and centred by their "
        "centre of mass. The book validates with the last 10,000 of the 60,000.",
        uses="Learning and comparison. Digits written elsewhere look different (a 1 with an "
        "upstroke, a 7 with a bar), so a model of MNIST is not a reader of the world's post. "
        "So many have tuned on its test set that small differences mean little.",
        distribution="Public; the licence is usually given as CC BY-SA 3.0.",
        maintenance="Nobody officially. Some labels are disputed, and none are corrected, so "
        "that results stay comparable.",
    ),
    "nietzsche": DataSheet(
        "Works of Nietzsche in English",
        motivation="Put together for examples of text generation, and used by the lessons.",
        composition="600,893 characters of 84 kinds: translations from Project Gutenberg, with "
        "their prefaces and some remnants of their layout.",
        collection="A file distributed with Keras; who put it together and which editions it has "
        "is not stated in it.",
        preprocessing="None.",
        uses="Modelling characters. The text says, in the voice of a philosopher of the 19th "
        "century and of his translators, harsh things about women and peoples; a model of it will "
        "say such things in his rhythm and without their context. Do not show its output to "
        "anybody as an opinion.",
        distribution="Public domain in the United States.",
        maintenance="Nobody; the file is fixed by its checksum.",
    ),
    "movielens-small": DataSheet(
        "MovieLens, small",
        motivation="Made by the research group GroupLens at the University of Minnesota, of its "
        "film recommender, for education and development.",
        composition="100,836 ratings of 9,742 films by 610 users, with the time of each. No "
        "demographic information, only a number for each user. A row is missing "
        "whenever somebody did not rate, which is by no means at random.",
        collection="Ratings that users of the site gave from 1996 to 2018. Users were drawn at "
        "random among those with at least 20 ratings: people who rate little are not in it.",
        preprocessing="Ratings and titles joined by the number of the film.",
        uses="Learning about recommenders. Not for published comparisons: GroupLens says that it "
        "may change. Not to find out who somebody is: ratings with dates have been used for that, "
        "with another collection. No chapter of this version uses it.",
        distribution="Research use under GroupLens's own terms, no commercial use.",
        maintenance="GroupLens.",
    ),
    "compas": DataSheet(
        "COMPAS scores and recidivism in Broward County",
        motivation="Obtained by ProPublica from the sheriff of Broward County, Florida, to examine "
        "a commercial risk score, and published with the article.",
        composition="7,214 people arrested and scored: sex, age, race as the "
        "authorities recorded it, counts of earlier offences, the charge's degree, the score, and "
        "whether a new arrest for a crime came within two years. All of them are real people, and "
        "they did not choose to be here.",
        collection="Scores of 2013 and 2014 from a request under Florida's law on public "
        "records, matched by name and date of birth with records of courts and jails. "
        "An arrest is not an offence: it depends on where the police look. Barenstein (2019) found "
        "that the file keeps people who were arrested again and were scored too late for two years "
        "of observation, so that its base rates are too high.",
        preprocessing="The book's loader drops names, dates of birth, all dates and case numbers "
        "in memory, before anything is stored, and keeps 17 columns.",
        uses="To see what error rates and calibration by group are. Not to train a predictor that "
        "is used on anybody; not as a benchmark of fairness methods in general, since its labels "
        "are arrests and one county in two years is not the world; not to look for persons.",
        distribution="Public records; ProPublica states no licence. The reduced file is made on "
        "your machine and not distributed with the book.",
        maintenance="ProPublica has left the file as it was published.",
    ),
    "compas-counts": DataSheet(
        "Counts of people by COMPAS score",
        motivation="Made for the chapter on ethics, so that its pictures can be drawn without the "
        "table of persons.",
        composition="40 numbers: how many African-American and how many Caucasian defendants (the "
        "records' words) had each of the ten scores, with and without a new arrest. With 6,150 "
        "people in them, every count is at least 19; they name nobody.",
        collection="Counted in the table above. In the full profile the chapter counts "
        "again and compares.",
        preprocessing="Other groups are left out, as in ProPublica's two tables, because they are "
        "small. That is a loss: for them the chapter says nothing.",
        uses="Thresholds, error rates, calibration. All that is said about the table above holds "
        "here too.",
        distribution="In `glassbox.recidivism`.",
        maintenance=_OURS,
    ),
    "gender-shades": DataSheet(
        "The error rates of Gender Shades",
        motivation="Published by J. Buolamwini and T. Gebru (2018) to show that a product's error "
        "differs between groups.",
        composition="Twelve error rates: three products, four groups of faces.",
        collection="The authors had 1,270 portraits of members of six parliaments classified by "
        "the products. The faces are not in the book.",
        preprocessing="Typed in from the article.",
        uses="To see what an average hides. They are about products of 2017 and about guessing a "
        "person's gender, not about recognising persons.",
        distribution="Numbers are free; cite the article.",
        maintenance="The article is final; a follow-up measured the products again.",
    ),
    "cluttered-scenes": DataSheet(
        "Cluttered scenes (simulated)",
        motivation="Made for the chapter on heatmaps, where it must be known to the pixel what is "
        "where.",
        composition="Any number of small colour pictures with one labelled object of six shapes "
        "among other things. About nobody.",
        collection="Drawn by `glassbox.simulations.cluttered_scenes` from a seed.",
        preprocessing="None.",
        uses="Testing heatmaps. What works on flat shapes may fail on photographs.",
        distribution=_FREE,
        maintenance=_OURS,
    ),
    "retail": DataSheet(
        "A chain of shops (simulated)",
        motivation="Made for the chapter on tabular data: the lesson's sales data may not be "
        "passed on, and here the truth is known.",
        composition="A row for each shop and day: calendar, promotion, holidays, closures, values "
        "missing on purpose, and sales. The states in which the shops are lie on a map that the "
        "model does not see. About nobody.",
        collection="Drawn by `glassbox.retail` from a seed.",
        preprocessing="None.",
        uses="Learning, and testing whether a model finds what was put in. Not to learn about "
        "trade: every regularity in it was our idea.",
        distribution=_FREE,
        maintenance=_OURS,
    ),
    "film-club": DataSheet(
        "A film club (simulated)",
        motivation="Made for the chapter on collaborative filtering: MovieLens may not be passed "
        "on with the book, and here everybody's taste is known.",
        composition="A row for each rating: member, film, stars, and the film's invented title and "
        "genre. Two tastes, generosity and quality made the ratings, and are not in the table. A "
        "row is missing where a member did not rate, which is by no means at random: members "
        "see what they will like. About nobody.",
        collection="Drawn by `glassbox.tastes` from a seed.",
        preprocessing="Ratings are rounded to half stars and cut at both ends of the scale.",
        uses="Learning, and testing whether a model finds what was put in. Not to learn about "
        "films or people: that those who like grave films are harsh was our idea.",
        distribution=_FREE,
        maintenance=_OURS,
    ),
    "feedback": DataSheet(
        "A city, a platform and a town (simulated)",
        motivation="Made for the chapter on ethics: feedback loops in which what the system cannot "
        "see is known.",
        composition="Shares of patrols, means over viewers, shares of people shown and present. "
        "About nobody, and about no real city, platform or company.",
        collection="Drawn by `glassbox.feedback` from a seed. The mechanisms are taken from the "
        "literature; their strengths are our choice.",
        preprocessing="None.",
        uses="To see what a mechanism can do, and which assumption it needs. Not as evidence that "
        "a certain system does it.",
        distribution=_FREE,
        maintenance=_OURS,
    ),
    "toys": DataSheet(
        "Points, lines and valleys (drawn in the chapters)",
        motivation="Small numbers for explaining one idea: a list of four, points around a line, "
        "a valley to descend.",
        composition="From four to some ten thousand numbers, each drawn in the cell that needs "
        "it. About nobody.",
        collection="From a seeded generator, as the cell shows.",
        preprocessing="None.",
        uses="Explaining. They have no noise but ours.",
        distribution="In the chapters, under their licence (CC BY 4.0).",
        maintenance=_OURS,
    ),
}

_CLASSROOM = (
    "To be read, changed and broken by learners. Not for deciding anything about anybody, and "
    "not for any product."
)

CARDS: dict[str, ModelCard] = {
    "digits": ModelCard(
        "Digit classifiers (linear, one hidden layer, convolutional, residual)",
        details="Trained in most chapters from random weights, within minutes, by the code on the "
        "page; nothing is kept but the figures.",
        intended_use=_CLASSROOM,
        factors="Writing style (slant, thickness), country of schooling, pen and scanner. Only the "
        "first is measured, in the chapter on ethics: the writers are unknown.",
        metrics="Accuracy on pictures held out; error by writing style. The classes are of nearly "
        "equal size, and every error costs the same, which no post office would say.",
        evaluation_data="The validation pictures of the profile, and its test pictures where a "
        "chapter says so.",
        training_data="MNIST in the full profile, enlarged digits of scikit-learn in the sample.",
        results="In the ledger, with the seeds' median and range.",
        considerations="The pictures show no persons. A reader of amounts or of postcodes that "
        "errs more often for some hands would do harm, and its average would not show it.",
        caveats="A network answers also when it is shown no digit at all (chapter on "
        "softmax). It has not been tried on other countries' digits.",
    ),
    "scenes": ModelCard(
        "Scene classifiers",
        details="Small convolutional networks of the chapter on heatmaps, one of them spoiled with "
        "a watermark on purpose.",
        intended_use=_CLASSROOM,
        factors="The presence of a mark; the number of other things in the picture.",
        metrics="Accuracy; how well heatmaps hit the object.",
        evaluation_data="Scenes from other seeds.",
        training_data="Cluttered scenes (simulated).",
        results="In the chapter and the ledger.",
        considerations="None of the pictures shows a person. The spoiled network is a warning: it "
        "looks accurate for a reason that has nothing to do with the object.",
        caveats="Flat shapes only.",
    ),
    "sales": ModelCard(
        "Models of sales",
        details="Networks with embeddings, boosted trees, forests and neighbours of the chapter on "
        "tabular data.",
        intended_use=_CLASSROOM,
        factors="Shop, state, season, promotion.",
        metrics="Relative error of the sales, on days after those of training.",
        evaluation_data="The last part of the simulated calendar.",
        training_data="A chain of shops (simulated).",
        results="In the chapter and the ledger.",
        considerations="A model that plans staff or stock decides about people's shifts; ours "
        "plans nothing.",
        caveats="The simulation has no crises and no prices, and no competitor ever opens.",
    ),
    "ratings": ModelCard(
        "Models of ratings, and vectors of films by skip-gram",
        details="Dot products with biases, a network on the same vectors, and vectors learned from "
        "what was liked together, in the chapter on collaborative filtering.",
        intended_use=_CLASSROOM + " Nothing is recommended to anybody.",
        factors="How many ratings a user and a film have; how far a taste lies from the usual one.",
        metrics="Mean squared error in stars, on ratings held out of each user's; for the film "
        "club also on films that nobody rated.",
        evaluation_data="A fifth of each user's ratings; the pairs that the club did not rate.",
        training_data="A film club (simulated) in the sample profile, MovieLens in the full.",
        results="In the chapter and the ledger.",
        considerations="Tastes tell about people: who likes what together gives much of it away, "
        "without a name and without a star. A recommender also makes the ratings of tomorrow.",
        caveats="Ratings are of films that somebody chose to see; of the others the models expect "
        "too much.",
    ),
    "autoencoders": ModelCard(
        "Autoencoders of digits",
        details="Networks with a narrow middle layer, plain and denoising, in the chapter on "
        "collaborative filtering.",
        intended_use=_CLASSROOM,
        factors="Writing style, as for the digit classifiers; the share of pixels wiped out.",
        metrics="Mean squared difference from the original picture; accuracy of a linear "
        "classifier on the middle layer, with few labels.",
        evaluation_data="Pictures of the validation set, spoiled at random and not.",
        training_data="MNIST in the full profile, enlarged digits of scikit-learn in the sample.",
        results="In the chapter and the ledger.",
        considerations="What it fills in is what was usual in training, and looks plausible when "
        "it is wrong. Evidence must not be cleaned in this way.",
        caveats="It has seen one kind of damage only.",
    ),
    "characters": ModelCard(
        "Language models of characters",
        details="Recurrent networks of the chapter on sequences, trained from random weights.",
        intended_use=_CLASSROOM + " Its output is no statement of anybody's.",
        factors="The kind of text: prose, code, names, other languages.",
        metrics="Cross-entropy and bits for each character, on the end of the text.",
        evaluation_data="The last part of the same text.",
        training_data="The Python reference in the sample profile, Nietzsche's works in the full.",
        results="In the chapter and the ledger.",
        considerations="It repeats what it read, insults included, and puts together sentences "
        "nobody wrote. See the sheet of the text.",
        caveats="It has one author's style at most, and no knowledge.",
    ),
}


def main(arguments: list[str]) -> int:
    """Write the page to the file that is named; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m glassbox.sheets PAGE.md", file=sys.stderr)
        return 2
    Path(arguments[0]).write_text(page(SHEETS, CARDS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The data of the article: handwritten digits, without the first ten rows."""

from sklearn import datasets


def get_data():
    digits = datasets.load_digits()
    return {"X": digits.data[10:, :], "y": digits.target[10:]}

r"""Texts as vectors: the weighted counts of their words and pairs of words (TF-IDF).

Term j of a text x with c_j(x) occurrences has the value (1 + log c_j(x)) w_j if c_j(x) > 0, else 0, divided
by the vector's Euclidean norm, with w_j = 1 + log((1 + n) / (1 + n_j)), where n_j of the n training texts
contain the term (scikit-learn's ``TfidfVectorizer`` with ``sublinear_tf``). A text without a known term is
the zero vector. Words are in lower case; punctuation and order beyond pairs are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.log.samples import Samples

MOST = 3000  # terms: the most frequent ones
PATTERN = r"(?u)\b\w+\b"


@dataclass(frozen=True)
class Words:
    """Terms with their weights.

    Attributes:
        terms: Words, and pairs of words separated by a space, in alphabetical order.
        weights: Weight of each term, shape (terms,).
    """

    terms: tuple[str, ...]
    weights: FloatArray

    @classmethod
    def learn(cls, texts: Samples) -> Self:
        """Return the terms of texts (n,).

        Raises:
            InputError: If no text has a word.
        """
        made = _vectorizer(max_features=MOST)
        try:
            made.fit(texts.tolist())
        except ValueError:
            raise InputError(
                "the texts have no words", got=f"{len(texts)} texts", remedy="check the column: data.sample"
            ) from None
        return cls(tuple(made.get_feature_names_out().tolist()), np.asarray(made.idf_, float))

    def vectors(self, texts: Samples | Sequence[str]) -> Any:
        """Return the vectors of texts, a sparse matrix (n, terms) in float32."""
        made = _vectorizer(vocabulary=list(self.terms))
        made.idf_ = self.weights
        return made.transform(list(texts)).astype(np.float32)


def _vectorizer(**further: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=PATTERN, sublinear_tf=True, **further)

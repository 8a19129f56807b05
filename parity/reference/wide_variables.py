"""Variables of the official network in float64, without a second copy of them all."""

from collections.abc import Iterator, Mapping
from typing import Any

Tensor = Any  # a tf.Tensor


class WideVariables(Mapping[str, Tensor]):
    """Variables in float64, each made when it is asked for."""

    def __init__(self, variables: Mapping[str, Tensor], tensorflow: Any):
        self._variables, self._tensorflow = variables, tensorflow

    def __getitem__(self, name: str) -> Tensor:
        return self._tensorflow.cast(self._variables[name], "float64")

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

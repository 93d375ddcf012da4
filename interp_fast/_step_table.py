"""The table of numbers that a solver is, and what follows from the numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._results import to_json

__all__ = ["COLUMNS", "StepTable", "check_steps"]

COLUMNS = ("times", "alpha", "sigma", "A", "B", "C", "S", "commit")

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class StepTable:
    """A solver written down: R rows, and the R + 1 points between which they move.

    Parameters
    ----------
    times, alpha, sigma : (R + 1,) float64
        Entry r is where row r evaluates, entry r + 1 the point its output lies at.
    A, B, C, S : (R,) float64
        Weights of the base, of this row's D, of the D of the row above, and of the noise.
    commit : (R,) bool
        Whether the output of a row becomes the base.
    name : str, optional

    Raises
    ------
    ValueError
        Lengths differ; something is not finite; sigma <= 0 where a row evaluates; alpha/sigma or time falls; C[0] is
        not 0; S is negative, or not 0 on an uncommitted row; the last row is not committed.

    Examples
    --------
    One step of Euler's method, from the noise onto the mean of the data:

    >>> import interp_fast as itf
    >>> itf.StepTable([0, 1], alpha=[0, 1], sigma=[1, 0], A=[0], B=[1], C=[0], S=[0], commit=[True], name="one step")
    StepTable one step: 1 rows, 1 committed
       row       times       alpha       sigma           A           B           C           S  commit
         0           0           0           1           0           1           0           0  True
         1           1           1           0
    """

    times: Float
    alpha: Float
    sigma: Float
    A: Float
    B: Float
    C: Float
    S: Float
    commit: npt.NDArray[np.bool_]
    name: str = "steps"

    def __post_init__(self) -> None:
        for name in COLUMNS:
            given = getattr(self, name)
            array = np.array(_arrays.as_array(given, name)[0], bool) if name == "commit" else _arrays.reals(given, name)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        rows = self.commit.size
        if rows == 0 or self.commit.ndim != 1:
            msg = f"{self.name}: commit must be a vector with an entry for each row; got shape {self.commit.shape}."
            raise ValueError(msg)
        for name in COLUMNS:
            array, wanted = getattr(self, name), (rows + (name in COLUMNS[:3]),)
            if array.shape != wanted:
                msg = f"{self.name}: {name} must have shape {wanted} for {rows} rows; got {array.shape}."
                raise ValueError(msg)
            self._check(name, np.isfinite(array), "be finite")
        times, alpha, sigma = self.times, self.alpha, self.sigma
        self._check("times", (times >= 0) & (times <= 1), "lie in [0, 1]")
        self._check("times", np.append(True, np.diff(times) >= 0), "not decrease")
        self._check("sigma", sigma[:-1] > 0, "be > 0 where a row evaluates")
        self._check("sigma", sigma >= 0, "be >= 0")
        self._check("alpha", alpha >= 0, "be >= 0")
        rising = alpha[1:] * sigma[:-1] >= alpha[:-1] * sigma[1:] * (1 - 1e-12)
        self._check("alpha", np.append(True, rising), "not fall relative to sigma")
        self._check("C", self.C[:1] == 0, "be 0 in the first row, which has none above")
        self._check("S", self.S >= 0, "be >= 0")
        self._check("S", self.commit | (self.S == 0), "be 0 in rows that are not committed")
        self._check("commit", self.commit | (np.arange(rows) < rows - 1), "be True in the last row")

    def _check(self, name: str, holds: npt.NDArray[np.bool_], rule: str) -> None:
        if not holds.all():
            r = int(np.argmin(holds))
            msg = f"{self.name}: {name} must {rule}; got {getattr(self, name)[r]} at index {r}."
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.commit)

    def propagator(self) -> Float:
        """Phi_r, the factor from the output of row r to the end: product of A over the committed rows after r.

        (R,), 0 on uncommitted rows. O(R).
        """
        factors = np.where(self.commit, self.A, 1.0)
        after = np.append(np.cumprod(factors[:0:-1])[::-1], 1.0)
        return np.where(self.commit, after, 0.0)

    def noise_std(self) -> Float:
        """Standard deviation, per coordinate, of the noise added so far in the output of row r: V <- A^2 V + S^2.

        (R,), 0 on uncommitted rows; the last is the endpoint's. O(R).
        """
        deviation, result = 0.0, []
        for a, s, commit in zip(self.A.tolist(), self.S.tolist(), self.commit.tolist(), strict=True):
            deviation = math.hypot(a * deviation, s) if commit else deviation
            result.append(deviation if commit else 0.0)
        return np.array(result)

    def error_weights(self) -> Float:
        """W_r, the weight in the final state of an error added to the D of row r: Phi_r B_r + Phi_{r+1} C_{r+1}.

        (R,), also on uncommitted rows: the error of a predictor reaches the end through the corrector's C. O(R).
        """
        phi = self.propagator()
        weights = phi * self.B
        weights[:-1] += phi[1:] * self.C[1:]
        return weights

    def curvature_defect(self) -> Float:
        """c_r = A_r alpha_base + B_r + C_r - alpha_{r+1}: by how much row r leaves alpha x_* while D = x_*.

        (R,), in units of x_*; 0 on uncommitted rows and for every row that is exact for constant D. O(R).
        """
        return np.where(self.commit, self._defects(), 0.0)

    def _defects(self) -> Float:
        """A_r alpha_base + B_r + C_r - alpha_{r+1}, (R,), on uncommitted rows too."""
        lands = np.where(self.commit, np.arange(1, len(self) + 1), 0)
        base = np.append(0, np.maximum.accumulate(lands)[:-1])
        defects: Float = self.A * self.alpha[base] + self.B + self.C - self.alpha[1:]
        return defects

    def to_dict(self) -> dict[str, Any]:
        """The name and every column as a list; ``StepTable(**d)`` builds the table again."""
        return {"name": self.name} | {name: getattr(self, name).tolist() for name in COLUMNS}

    def to_json(self) -> str:
        """``to_dict`` as JSON."""
        return to_json(self.to_dict())

    def __repr__(self) -> str:
        head = f"StepTable {self.name}: {len(self)} rows, {self.commit.sum()} committed"
        lines = [head, "   row" + "".join(f"{name:>12}" for name in COLUMNS[:-1]) + "  commit"]
        for r in range(len(self) + 1):
            if 4 <= r < len(self) - 3 and len(self) > 8:
                lines += ["   ..."] if r == 4 else []
                continue
            cells = [f"{getattr(self, name)[r]:12.5g}" for name in COLUMNS[: 7 if r < len(self) else 3]]
            end = f"  {bool(self.commit[r])}" if r < len(self) else ""
            lines.append(f"{r:6d}" + "".join(cells) + end)
        return "\n".join(lines)


def check_steps(steps: Any, name: str = "steps") -> StepTable:
    """``steps`` itself; TypeError unless it is a StepTable."""
    if not isinstance(steps, StepTable):
        msg = f"{name} must be a StepTable, e.g. itf.euler(field.schedule, 64); got {type(steps).__name__}."
        raise TypeError(msg)
    return steps

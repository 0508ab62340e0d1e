"""Mistakes that a type checker must report: each line that is marked, and no other."""

import mseloss
import numpy as np
from mseloss import metrics

x = np.ones(3, np.float32)
mseloss.lose(x, x)  # mistake
mseloss.grad(1.0, x, x, "average")  # mistake
mseloss.loss(x, x, axis="rows")  # mistake
mseloss.compare(x, x, tolerance="1")  # mistake
metrics.mean_squared_error(x)  # mistake
total: int = metrics.mean_squared_error(x, x, multioutput="raw_values")  # mistake

"""Rows of operators, in a module that imports the specification only: dialects load it."""

import math

from sta.spec.operators.elementwise import elementwise, pointwise

ATAN = elementwise("aten.atan", pointwise(math.atan), "the arc tangent", curvature=3 * 3**0.5 / 8)

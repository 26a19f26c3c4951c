"""How colourful a picture looks."""

import numpy as np
from numpy.typing import NDArray


def colourfulness(rgb: NDArray[np.uint8]) -> float:
    """How colourful a picture (H, W, 3) uint8 looks: 0 is grey, 15 slightly, 33 moderately, 82 highly, 109 extremely colourful.

    It is M^(3) of Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003): from the standard deviations and
    the means of the differences red - green and yellow - blue, in code values.
    """
    red, green, blue = (rgb[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    deviation = np.hypot(red_green.std(), yellow_blue.std())
    mean = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(deviation + 0.3 * mean)

"""What efficient stochastic depth saves: a training step of cosub, dropped rows left out of the computation or computed.

    python benchmarks/stochastic_depth.py [--backbone wrn16_2] [--rows 32] [--rates 0.2 0.5] [--steps 5] [--rounds 9]

Each round trains every contestant once, in turn, on the same images; cosub's pass has 2 × rows. Shown are the medians over
rounds of rows per second and of the ratio of times, efficient to plain at the same rate, by the clock and by processor time.
"""

import argparse

import numpy as np
from step import measure

import mixmo_keras


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--rows", type=int, default=32, help="images a step")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.5])
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    size = arguments.rows * arguments.steps
    images, labels = random.integers(0, 256, (size, 32, 32, 3)).astype("uint8"), random.integers(0, 10, size)
    models = {
        (rate, efficient): mixmo_keras.CoSub(
            arguments.backbone,
            num_classes=10,
            input_shape=(32, 32, 3),
            augmentation=None,
            seed=0,
            drop_path=rate,
            efficient_drop_path=efficient,
        )
        for rate in arguments.rates
        for efficient in (False, True)
    }
    speeds = measure(models, images, labels, arguments.rows, arguments.rounds)
    print(f"{arguments.backbone}, {arguments.rows} images a step, {arguments.steps} steps a round")
    print(
        f"{'drop-path':<12}{'plain rows/s':>14}{'efficient rows/s':>18}{'ratio of times':>16}{'of processor time':>19}"
    )
    for rate in arguments.rates:
        plain, efficient = speeds[rate, False], speeds[rate, True]
        clock, processor = np.median(plain / efficient, axis=1)
        medians = f"{np.median(plain[0]):>14.1f}{np.median(efficient[0]):>18.1f}"
        print(f"{rate:<12}{medians}{clock:>16.3f}{processor:>19.3f}")


if __name__ == "__main__":
    main()

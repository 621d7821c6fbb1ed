"""Runs recipes as scripts, one after the other, in the folder and the environment that it is started in.

The arguments name the first words of the commands to run; without one all are run. The last line says how many ended well.
"""

import os
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import tiny  # registers the backbone tiny_4
from PIL import Image

RECIPES = Path(tiny.__file__).parents[1] / "recipes"
PHOTOS = "Fotos ü [1] {x} 100%"
# in names of runs: TensorFlow takes brackets for a pattern, and an export to such a path is refused
IN_NAMES = "Fotos ü _1_ {x} 100%"
TINY = "--backbone tiny_4 --epochs 1 --output-dir 'runs {0} [b] %s'"
OF_PHOTOS = f"--dataset '{PHOTOS}@8' {TINY}"
CUT, SINGLE = (f"'runs {{0}} [b] %s/{IN_NAMES}_8-{method}-tiny_4-seed0'" for method in ("cut_mixmo", "single"))
SEARCH = f"--dataset '{PHOTOS}@8' --epochs 1 --rows 16 --backbone tiny --widths 4 --output-dir 'search {{0}} [b]'"
COMMANDS = f"""
digits {TINY} --batch-size 256
images '{PHOTOS}@8' {TINY} --batch-size 16 --compare-single --export-dir 'served ü'
evaluate {CUT} --temperature --save-calibrated --export 'export ü {{x}}' --output-dir 'report ü'
evaluate --compare {SINGLE} {CUT} --output-dir 'comparison {{}} [b]'
predict '{PHOTOS}/Kätzchen [b]/0 #%.png' --saved-model 'export ü {{x}}'
predict '{PHOTOS}/Hund {{y}} %d/1 #%.png' --saved-model 'export ü {{x}}' --json
cifar10 {OF_PHOTOS} --batch-size 16 --seed 2
cifar100 {OF_PHOTOS} --batch-size 32 --seed 1
cosub --dataset '{PHOTOS}@8' --backbone wrn10_1 --epochs 1 --batch-size 8
mimo {OF_PHOTOS} --batch-size 32 --devices 1
imagenet {OF_PHOTOS} --batch-size 32 --seed 4
tiny_imagenet {OF_PHOTOS} --batch-size 32 --seed 3
reproduce --list
reproduce cifar10 --rows vanilla --scale 0.001 --backbone tiny_4 --dataset digits --output-dir 'tables ü {{}}'
search {SEARCH} --max-trials 2
search {SEARCH} --max-trials 3
search {SEARCH} --pilot --seeds 0
images --help
search --help
demo
"""


def make_photos() -> None:
    """Two classes of 30 images whose names have what a glob, a template, a shell and a URL give a meaning to."""
    random = np.random.default_rng(0)
    for name in ("Kätzchen [b]", "Hund {y} %d"):
        os.makedirs(f"{PHOTOS}/{name}", exist_ok=True)
        for number in range(30):
            pixels = random.integers(0, 256, (9, 9, 3), dtype="uint8")
            Image.fromarray(pixels).save(f"{PHOTOS}/{name}/{number} #%.png")


def run(name: str, *arguments: str) -> bool:
    """Whether a recipe's script ends well."""
    sys.argv = [str(RECIPES / f"{name}.py"), *arguments]
    if name == "demo":
        import dataclasses

        import demo

        demo.demo(dataclasses.replace(demo.RECIPE, epochs=1, backbone="tiny_4"))
        return True
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            sys.stderr.write(f"FAILED: {shlex.join([name, *arguments])}: {ended.code}\n")
            return False
    return True


if __name__ == "__main__":
    sys.path.insert(0, str(RECIPES))
    make_photos()
    commands = [shlex.split(line) for line in COMMANDS.strip().splitlines()]
    commands = [command for command in commands if command[0] in sys.argv[1:] or not sys.argv[1:]]
    ended_well = [run(*command) for command in commands]
    print(f"{sum(ended_well)} of {len(commands)} ended well")

"""cosub: submodels of one network that teach each other (Touvron et al., CVPR 2023).

    python recipes/cosub.py                                        CIFAR-100 with MixMo's network and settings
    python recipes/cosub.py --backbone vit_tiny4 --drop-path 0.1   a small vision transformer
    python recipes/cosub.py --efficient-drop-path                  dropped rows are not computed
    python recipes/cosub.py cifar10_vit                            the paper's recipe, scaled down to CIFAR-10
    python recipes/cosub.py cifar10_vit --method single --teaching softmax     the same without submodels
    python recipes/cosub.py vit_small                              the paper's recipe: ImageNet, 224 pixels
    python recipes/cosub.py vit_base                               at 192 pixels, and then at 224:
    python recipes/cosub.py vit_base_224 --begin-with runs/RUN
    python recipes/cosub.py vit_small --dataset photos@224         a folder of images
    python recipes/cosub.py --list                                 all settings

The settings of ViT are those of the paper's code on ImageNet-1k: 800 epochs of LAMB, 2,048 images a step, a cosine after
5 epochs of warm-up, decay .05, 3-Augment and colour jitter .3, MixUp or CutMix in each step, binary cross-entropy of every
label above 0, a moving average of the weights, and gradients of norm 1 at most. Stochastic depth grows with the network.
Base, large and huge train at fewer pixels, and then 20 epochs at 224. What the paper trained other architectures by is not
known to us in full: theirs are the settings of ViT-B, at 224 pixels. docs/fidelity.md says what differs.

The paper's figures at 224 pixels: ViT-S 83.1 %, ViT-B 86.3, ViT-L 87.5, ViT-H 88.0, Swin-B 86.2, RegNetY-16GF 84.2,
PiT-B 85.8, ConvNeXt-B 85.8. Where we read them it isn't stated which were first trained on ImageNet-21k. None of them was
run here: 800 epochs of 2 × 1.28 million images take weeks on eight GPUs. Of MixMo's settings with cosub nobody has
published a figure.
"""

import dataclasses
import sys
from typing import Any

from mixmo_keras.common.console import say
from mixmo_keras.experiments import Recipe, main

RECIPE = Recipe(
    dataset="cifar100",
    crop="pad",  # random crops after padding, left-right flips
    padding=4,
    flip=True,
    method="cosub",  # drop-path 0.2 and λ = 0.5, unless told otherwise
    backbone="wrn28_10",
    epochs=300,
    batch_size=64,  # rows, each of which passes twice
)
IMAGENET = Recipe(
    dataset="imagenet2012@224",
    crop="whole",  # a random part of each image, enlarged
    interpolation="bicubic",
    policy="three_augment",
    color_jitter=0.3,
    method="cosub",
    teaching="sigmoid",
    loss="multi_hot",  # an image of two classes has two ones
    msda="mixup_or_cutmix",  # MixUp with α = 0.8, CutMix with α = 1
    msda_probability=1.0,
    backbone="deit3_small16",
    drop_path=0.05,
    epochs=800,
    warmup_epochs=5,
    batch_size=2048,
    optimizer="lamb",
    learning_rate=4e-3,
    schedule="cosine",
    weight_decay=0.05,
    clip_norm=1.0,
    ema=0.99996,
    train_split="train+validation",
)
BASE = dataclasses.replace(
    IMAGENET, dataset="imagenet2012@192", backbone="deit3_base16", drop_path=0.2, learning_rate=3e-3
)
# the second stage of base, large and huge: begins with the first one's run
AT_224: dict[str, Any] = dict(
    dataset="imagenet2012@224",
    epochs=20,
    optimizer="adamw",
    learning_rate=1e-5,
    weight_decay=0.1,
)
LARGE = dataclasses.replace(BASE, backbone="deit3_large16", drop_path=0.45)
HUGE = dataclasses.replace(BASE, dataset="imagenet2012@160", backbone="deit3_huge14", drop_path=0.6)
SETTINGS = {
    "vit_small": IMAGENET,
    "vit_base": BASE,
    "vit_base_224": dataclasses.replace(BASE, **AT_224),
    "vit_large": LARGE,
    "vit_large_224": dataclasses.replace(LARGE, **AT_224),
    "vit_huge": HUGE,
    "vit_huge_224": dataclasses.replace(HUGE, **AT_224),
    **{
        name: dataclasses.replace(BASE, dataset="imagenet2012@224", backbone=name)
        for name in ("swin_base", "regnety_16gf", "pit_base", "convnext_base", "xcit_small12_16")
    },
    # for a machine without ImageNet: 4-pixel patches, a tenth of the epochs, padding in place of random parts
    "cifar10_vit": dataclasses.replace(
        IMAGENET,
        dataset="cifar10",
        crop="pad",
        interpolation=None,
        backbone="vit_tiny4",
        epochs=80,
        batch_size=128,
        learning_rate=1e-3,
        ema=0.999,
        train_split="train",
    ),
}


def run(arguments: list[str] | None = None) -> dict | None:
    """Runs the setting that the command line names first, `RECIPE` where it names none, as changed by its options."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    if options == ["--list"]:
        for name, recipe in SETTINGS.items():
            say(f"{name:16} {recipe.dataset:17} {recipe.backbone:16} drop-path {recipe.drop_path:g}")
        return None
    if not options or options[0].startswith("-"):
        return main(RECIPE, __doc__, options)
    name, *options = options
    if name not in SETTINGS:
        raise SystemExit(f"error: the setting must be one of {', '.join(SETTINGS)}; got {name!r}.")
    return main(SETTINGS[name], __doc__, options)


if __name__ == "__main__":
    run()  # load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py

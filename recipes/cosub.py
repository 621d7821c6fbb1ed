"""cosub on CIFAR-100 with WRN-28-10: submodels that teach each other (Touvron et al., CVPR 2023).

    python recipes/cosub.py                                             the network of MixMo's experiments
    python recipes/cosub.py --backbone vit_tiny4 --drop-path 0.1        a small vision transformer
    python recipes/cosub.py --efficient-drop-path                       dropped rows are not computed
    python recipes/cosub.py --method cut_mixmo --drop-path 0.2 --co-training 0.5     inside Cut-MixMo

The paper trains transformers and ConvNets on ImageNet with AdamW or LAMB, which takes a cluster; this is its method with the
settings of MixMo's experiments, for which there is no published figure. Cost: 300 epochs of 2 × 45,000 rows, a day on a GPU.
"""

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

if __name__ == "__main__":
    main(RECIPE, __doc__)  # load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py

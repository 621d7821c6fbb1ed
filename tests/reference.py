"""The networks of MixMo's PyTorch implementation, written in PyTorch from the papers' facts: names and shapes as there."""

import torch
from torch import nn
from torch.nn import functional


class WideBlock(nn.Module):
    """BN, ReLU, 3×3, BN, ReLU, 3×3 with the stride, padded as TensorFlow does; shortcut of the raw input."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride = stride
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=0 if stride == 2 else 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        y = functional.relu(self.bn2(self.conv1(functional.relu(self.bn1(x)))))
        y = functional.pad(y, (0, 1, 0, 1)) if self.stride == 2 else y
        return self.conv2(y) + self.shortcut(x)


class PreActBlock(nn.Module):
    """BN, ReLU, 3×3 with the stride, BN, ReLU, 3×3; shortcut of the activation where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        y = functional.relu(self.bn1(x))
        shortcut = self.shortcut(y) if hasattr(self, "shortcut") else x
        return self.conv2(functional.relu(self.bn2(self.conv1(y)))) + shortcut


class Reference(nn.Module):
    """WRN-depth-width, or PreActResNet-18-width, with M encoders and heads; gives logits (B, M, K)."""

    def __init__(self, family, depth, width, num_members, num_classes):
        super().__init__()
        self.wide = family == "wrn"
        first = 16 if self.wide else 64
        convolutions = [
            nn.Conv2d(3, first, 3, 1 if self.wide else 2, padding=1, bias=False) for _ in range(num_members)
        ]
        counts = [(depth - 4) // 6] * 3 if self.wide else [2, 2, 2, 2]
        block, inputs = WideBlock if self.wide else PreActBlock, first
        for group, count in enumerate(counts):
            blocks, outputs = [], first * width * 2**group
            for index in range(count):
                blocks.append(block(inputs, outputs, 2 if group and index == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{group + 1}", nn.Sequential(*blocks))
        if self.wide:
            self.bn1 = nn.BatchNorm2d(inputs)
        heads = [nn.Linear(inputs, num_classes) for _ in range(num_members)]
        if num_members == 1:
            self.conv1, self.fc = convolutions[0], heads[0]
        else:
            self.list_conv1, self.list_fc = nn.ModuleList(convolutions), nn.ModuleList(heads)

    def forward(self, images, masks=None):
        """Normalised images (B, M, 3, H, W) and masks (B, M, 1, h, w); `None` for 1/M each."""
        members = self.list_conv1 if hasattr(self, "list_conv1") else [self.conv1]
        features = [encode(images[:, member]) for member, encode in enumerate(members)]
        masks = [1 / len(members)] * len(members) if masks is None else masks.unbind(1)
        x = len(members) * sum(mask * feature for mask, feature in zip(masks, features, strict=True))
        for group in (1, 2, 3, 4)[: 3 if self.wide else 4]:
            x = getattr(self, f"layer{group}")(x)
        x = functional.relu(self.bn1(x)) if self.wide else x
        heads = self.list_fc if hasattr(self, "list_fc") else [self.fc]
        return torch.stack([head(x.mean((2, 3))) for head in heads], 1)


def randomised(network, seed):
    """Random weights, and random batch-norm statistics and scales."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.5, 0.5, generator=generator)
    return network

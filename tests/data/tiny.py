"""Small networks of random weights, which nobody trained: what the packages beside this file were made of.

    cd tests/data
    ../../tools/torchscript_package.py tiny:whole --out torchscript-tiny --modality person --input-shape 3x16x8 \\
        --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --trial torchscript-tiny.json \\
        --licence Apache-2.0 --provenance "Random numbers, for tests." --source tests/data/tiny.py \\
        --intended-use "Tests of the loader." --not-for "Anything else."
    ../../tools/torchscript_package.py tiny:parts --argument keypoint_channels=1 --out torchscript-tiny-parts \\
        --modality person --input-shape 4x16x8 --parts 4 --keypoint-channels 1 --trial torchscript-tiny-parts.json \\
        --licence Apache-2.0 --provenance "Random numbers, for tests." --source tests/data/tiny.py \\
        --intended-use "Tests of the loader." --not-for "Anything else."
"""

import torch
from torch import nn


def whole():
    return randomised(Whole())


def parts(keypoint_channels):
    return randomised(Parts(keypoint_channels))


class Whole(nn.Module):
    """A convolution, its normalisation and an activation, pooled to 8 numbers."""

    def __init__(self, channels=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.PReLU(6))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 8))

    def forward(self, batch):
        return self.head(self.body(batch).mean((2, 3)))


class Parts(nn.Module):
    """Four parts of two numbers from the quarters of the height; one is visible while its quarter is not too dark."""

    def __init__(self, keypoint_channels):
        super().__init__()
        self.body = Whole(3 + keypoint_channels).body
        self.head = nn.Linear(6, 2)

    def forward(self, batch):
        quarters = batch[:, :3].unflatten(2, (4, 4))
        visible = quarters.mean((1, 3, 4)) >= 0
        pooled = nn.functional.adaptive_avg_pool2d(self.body(batch), (4, 1)).squeeze(3)
        return self.head(pooled.transpose(1, 2)).flatten(1), visible


def randomised(module):
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) - 0.25)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.add_(0.5)
    return module

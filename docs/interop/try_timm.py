"""timm: names of torchvision's ResNets, averages of masked weights, other numbers of channels."""

import timm
import torch
from common import row
from timm.models import load_checkpoint
from timm.utils import ModelEmaV3

TOOL = "timm"
torch.manual_seed(0)


def network(**options) -> torch.nn.Module:
    return timm.create_model("test_resnet.r160_in1k", pretrained=False, **options).eval()


model = network()
masks = {n: torch.rand_like(p) < 0.5 for n, p in model.named_parameters() if p.ndim == 4}
for name, mask in masks.items():
    model.get_parameter(name).data *= mask
total = sum(int((~mask).sum()) for mask in masks.values())


def zeros(other: torch.nn.Module) -> str:
    count = sum(
        int((other.get_parameter(n)[~m] == 0).sum())
        for n, m in masks.items()
        if other.get_parameter(n).shape == m.shape
    )
    return f"{count} of {total}"


torch.save(model.state_dict(), "timm.pt")
loaded = network()
load_checkpoint(loaded, "timm.pt")
row(TOOL, "pruned ResNet", "zeros after load_checkpoint", zeros(loaded))
average, optimizer = ModelEmaV3(model, decay=0.9), torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    for name, mask in masks.items():
        model.get_parameter(name).data *= mask
    average.update(model)
row(TOOL, "ResNet that is sparse from the start", "zeros of ModelEmaV3", zeros(average.module))
dense = network()
average = ModelEmaV3(dense, decay=0.9)
for name, mask in masks.items():
    dense.get_parameter(name).data *= mask
for _ in range(200):
    average.update(dense)
row(TOOL, "ResNet that becomes sparse", "zeros of ModelEmaV3, 200 steps", zeros(average.module))

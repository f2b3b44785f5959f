"""One step of towers with synchronised BatchNorm, in float64, on as many ranks as a launcher started.

    WORLD_SIZE=2 RANK=0 … python exact_batch_norm.py OUT

The first rank writes OUT: the loss, all gradients and all running statistics.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from protoclip.distributed import collectives
from protoclip.encoders.batch_norm import synchronise
from protoclip.encoders.precision import normalised
from protoclip.encoders.torchvision_workaround import make_torchvision_importable
from protoclip.prototypes.losses import info_nce
from protoclip.training.towers import Towers, wrapped

BATCH = 12


class ConvClip(nn.Module):
    """Convolutions with torch's and timm's BatchNorm over pictures [b, 3, 6, 6], BatchNorm1d over texts [b, 5]."""

    def __init__(self) -> None:
        super().__init__()
        make_torchvision_importable()
        from timm.layers import BatchNormAct2d

        self.visual = nn.Sequential(
            nn.Conv2d(3, 5, 3, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, 4, 2),
            BatchNormAct2d(4, momentum=None, act_layer=nn.SiLU),
            nn.Flatten(),
            nn.Linear(36, 6),
        )
        self.token_embedding = nn.Embedding(11, 7)
        self.text_norm = nn.BatchNorm1d(7, affine=False)
        self.text_projection = nn.Linear(7, 6)

    def encode_image(self, images: Tensor) -> Tensor:
        return self.visual(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_projection(self.text_norm(self.token_embedding(tokens).mean(dim=1)))


def own(rows: Tensor) -> Tensor:
    return rows.reshape(collectives.world_size(), -1, *rows.shape[1:])[collectives.rank()]


def one_step() -> dict[str, Tensor]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    module = ConvClip()
    names = list(module.state_dict())
    synchronise(module)
    if list(module.state_dict()) != names:
        raise SystemExit("the names in the state have changed")
    draw = torch.Generator().manual_seed(1)
    # Far from zero and unlike on the ranks: means of squares would cancel, a rank's own statistics would show.
    images = torch.randn(BATCH, 3, 6, 6, generator=draw) + torch.arange(BATCH).view(-1, 1, 1, 1) * 10
    tokens = torch.randint(0, 11, (BATCH, 5), generator=draw)
    towers = wrapped(Towers(module, "fp32"))
    image, text = (normalised(side) for side in towers(own(images), own(tokens)))
    sizes = collectives.gather_sizes(len(image))
    everything = [collectives.gather_with_gradient(side, sizes) for side in (image, text)]
    loss = info_nce(image, text, *everything, torch.tensor(7.0), first_row=collectives.rank() * len(image))
    loss.backward()
    found = {"loss": collectives.mean(loss.detach()).reshape(1)}
    for name, parameter in module.named_parameters():
        found[f"gradient of {name}"] = parameter.grad.clone()
    for name, buffer in module.named_buffers():
        found[f"statistic {name}"] = buffer.double().reshape(-1).clone()
    return found


def main() -> None:
    torch.set_num_threads(1)
    with collectives.ranks():
        found = {name: value.contiguous() for name, value in one_step().items()}
        differing = [name for name, value in found.items() if (collectives.gather_rows(value) != value).any()]
        if differing:
            raise SystemExit(f"the ranks differ in {differing}")
        if collectives.is_first():
            save_file(found, Path(sys.argv[1]))


if __name__ == "__main__":
    main()

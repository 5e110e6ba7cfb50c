"""Write `docs/checkpoints.md` from the tables in the code: formats of generators, and published networks."""

from pathlib import Path

from situ.checkpoints.networks import PUBLISHED
from situ.checkpoints.open import FORMATS

PAGE = Path(__file__).parent / "checkpoints.md"

TEXT = """# Files that Situ opens

## Generators

`--model FILE`, `situ convert FILE OUT.safetensors` and `situ pack create NAME --generator FILE` take any of these. The kind
is told by what is in the file, never by its name; sizes, widths, depth and classes are read from the tensors. Nothing in a
file is run: pickles go through a reader that knows arrays and plain containers and refuses the rest.

| format | what it is |
|---|---|
{formats}

What a file does not hold is made or assumed, and said (`situ inspect FILE --card`): a missing mean of W is the mean of
10,000 mapped codes, noise maps that a file lacks are drawn from a seed.

```sh
situ inspect ffhq.pkl                    # kind, spaces, layers
situ convert ffhq.pkl ffhq.safetensors   # as safetensors (--half: half)
situ sample --model ffhq.safetensors -n 4 -o samples.png
```

## Where people get generators

Situ fetches nothing. These are the projects that publish weights of these formats, and what they call their files; look
at their pages for the addresses, and read the licence there before you use or pass on what you make.

| model | project | file | licence of the weights |
|---|---|---|---|
| StyleGAN2, FFHQ, 1024 px | NVlabs/stylegan2-ada-pytorch | `ffhq.pkl` | NVIDIA Source Code License, non-commercial |
| StyleGAN2 of TensorFlow: FFHQ, cars, churches, horses, cats | NVlabs/stylegan2 | `stylegan2-ffhq-config-f.pkl`, `stylegan2-car-config-f.pkl` ... | the same |
| StyleGAN3 (T, R): FFHQ, AFHQ, MetFaces | NVlabs/stylegan3 | `stylegan3-t-ffhq-1024x1024.pkl`, `stylegan3-r-ffhq-1024x1024.pkl` ... | the same |
| StyleGAN2, FFHQ, with an encoder of photos | omertov/encoder4editing | `e4e_ffhq_encode.pt` | code MIT; the generator is NVIDIA's |
| StyleGAN2 | rosinality/stylegan2-pytorch | `.pt` files that its readers converted or trained | of whoever trained them |
| StyleGAN1 and 2, FFHQ and others | genforce/genforce | `stylegan_ffhq1024.pth`, `stylegan2_ffhq1024.pth` ... | code MIT; FFHQ weights are NVIDIA's |
| BigGAN-deep, ImageNet | huggingface/pytorch-pretrained-BigGAN | `biggan-deep-128`, `-256`, `-512`: weights and config in one folder | code MIT; converted from DeepMind's |
| BigGAN, ImageNet, 128 px | ajbrock/BigGAN-PyTorch | `G_ema.pth` | code MIT |

FFHQ itself, which these faces were learnt from, is CC BY-NC-SA 4.0. None of these files came with Situ's tests: readers
are tested on random weights in the same layouts, and against pictures that the projects' own code made of such weights.

## A pack of your own

```sh
situ pack create ffhq --generator ffhq.pkl --segmenter 79999_iter.pth --embedder model_ir_se50.pth --lpips alex --licence "NVIDIA Source Code License"
situ discover lelsd --model ffhq --part eyes -o eyes
```

A pack is a generator with the networks that go with it, under a name that every verb knows. Without a segmenter there are
still boxes, masks and [clusters](segmenters.md); `situ models` says what each pack can do.

## Share what you made

With the extra `hub` (`pip install 'situ[hub]'`), packs and directions go to and come from the Hugging Face hub:

```sh
situ pack push ffhq you/ffhq-situ
situ pack pull you/ffhq-situ
situ pack remove ffhq
situ directions push you/eyes-of-ffhq eyes/eyes.safetensors
situ directions pull you/eyes-of-ffhq -o eyes
```

A direction file names the weights that it was found on, and is refused on others.

## Networks

`--segmenter`, `--embedder` and `--lpips` take published weights. A path works, and so does a file of this name in the folder
that `SITU_WEIGHTS` names, in your data folder (`~/.local/share/situ/weights`), or in the hub's cache. Nothing is fetched.

| network | file | where people get it | licence |
|---|---|---|---|
{networks}
"""


def page() -> str:
    formats = [f"| `{each.name}` | {each.what} |" for each in FORMATS]
    networks = [f"| {each.what} | `{each.files[0]}` | {each.source} | {each.licence} |" for each in PUBLISHED.values()]
    return TEXT.format(formats="\n".join(formats), networks="\n".join(networks))


if __name__ == "__main__":
    PAGE.write_text(page())

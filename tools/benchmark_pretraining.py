"""Step time and peak memory of masked pretraining: medfm3d's against full-compute masking and its peers, in one run.

A step is forward, backward and AdamW on one batch of random windows. All contenders take turns, so that a machine that
is busy for a while slows all of them; the memory of each is measured in a process of its own. Those named "vit" have
window, patch, batch, mask ratio, and the encoder's embedding, depth and heads in common, and those named "swin" all but
the patch. "simmim" puts mask tokens in place of what is hidden and computes everything, without a decoder.
"""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from pretraining_benchmark.contenders import CONTENDERS, Sizes, TrainingStep
from pretraining_benchmark.measuring import peak_memory, step_times
from pretraining_benchmark.report import check_targets, summarise, table, verdict

from medfm3d.encoders import ENCODERS


def main() -> None:
    """Measure, print and write what was measured."""
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sizes = Sizes(**{field.name: getattr(arguments, field.name) for field in fields(Sizes)})
    device = torch.device(arguments.device)
    memory = {
        name: peak_memory(name, sizes, arguments.device, torch.get_num_threads()) for name in arguments.contenders
    }
    steps = {name: TrainingStep(name, sizes, device) for name in arguments.contenders}
    times = step_times(steps, arguments.repetitions, arguments.warmup)
    rows = {
        name: {**row, "memory_mib": memory[name], "weights": steps[name].weights()}
        for name, row in summarise(times).items()
    }
    result = {
        "sizes": asdict(sizes),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
        "targets": check_targets(rows),
        "steps": {name: [asdict(stage) for stage in stages] for name, stages in times.items()},
    }
    print(
        f"{sizes.vit} and {sizes.swin}, window {sizes.window}^3, batch {sizes.batch}, {sizes.mask_ratio:.0%} hidden, "
        f"{result['device']}, {result['threads']} threads, {arguments.repetitions} steps of each in turns"
    )
    print(table(rows))
    for checked in result["targets"]:
        print(verdict(checked))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--encoder", dest="vit", default=Sizes.vit, choices=_named("vit_"))
    parser.add_argument("--swin", default=Sizes.swin, choices=_named("swin_"))
    parser.add_argument("--window", type=int, default=Sizes.window, help="side in voxels, a multiple of 32")
    parser.add_argument("--batch", type=int, default=Sizes.batch)
    parser.add_argument("--mask-ratio", type=float, default=Sizes.mask_ratio)
    parser.add_argument("--decoder-dim", type=int, default=Sizes.decoder_dim)
    parser.add_argument("--decoder-depth", type=int, default=Sizes.decoder_depth)
    parser.add_argument("--decoder-heads", type=int, default=Sizes.decoder_heads)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for torch's own choice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=Sizes.seed)
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    return parser.parse_args()


def _named(family: str) -> list[str]:
    return [name for name in ENCODERS if name.startswith(family)]


if __name__ == "__main__":
    main()

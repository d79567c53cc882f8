"""A network's transformer blocks compiled one by one, and shared out over processes."""

from collections.abc import Sequence

import lightning.pytorch as pl
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method


def transformer_blocks(network: nn.Module) -> list[nn.Module]:
    """Return all modules of a network that have `attn` and `mlp`, as the blocks of every encoder and decoder do."""
    return [module for module in network.modules() if hasattr(module, "attn") and hasattr(module, "mlp")]


def compile_blocks(network: nn.Module) -> None:
    """Compile each transformer block in place, so that the names of the weights stay as they are.

    Blocks are alike, so that one compilation serves all of them, and what lies between may depend on the data
    ("regional compilation" of the PyTorch tutorials).

    Raises:
        ValueError: if the network has no such blocks.
    """
    blocks = transformer_blocks(network)
    if not blocks:
        raise ValueError(f"{type(network).__name__} has no transformer blocks to compile: set compile to false")
    for block in blocks:
        block.compile()


def shard_blocks(network: nn.Module, mesh: DeviceMesh, entrances: Sequence[str]) -> None:
    """Share the weights of a network out over the processes of a mesh: each block is whole only while it computes.

    Fully sharded data parallelism, second version (`torch.distributed.fsdp.fully_shard`; Zhao et al. 2023,
    arXiv 2304.11277). The weights outside the blocks are whole while one of the entrances runs.

    Args:
        network: on the mesh's device.
        mesh: one-dimensional.
        entrances: methods, beside `forward`, through which the network is called.
    """
    for block in transformer_blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for name in entrances:
        register_fsdp_forward_method(network, name)


def scale_network(module: pl.LightningModule, network: nn.Module, *, compiled: bool, entrances: Sequence[str]) -> None:
    """Compile and shard a module's network as flag and strategy ask, for `configure_model`; a second call does nothing.

    Args:
        module: attached to a trainer.
        network: that of the module.
        compiled: whether to compile the blocks.
        entrances: as of `shard_blocks`.
    """
    if getattr(module, "_is_scaled", False):
        return
    module._is_scaled = True
    if compiled:
        compile_blocks(network)
    if isinstance(module.trainer.strategy, ModelParallelStrategy):
        shard_blocks(network, module.device_mesh["data_parallel"], entrances)


def is_sharded(network: nn.Module) -> bool:
    """Return whether a network computes only if all processes call it."""
    return any(isinstance(module, FSDPModule) for module in network.modules())


def whole_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights, each whole, by their plain names; if it is sharded, all processes must call this.

    Returns:
        Tensors on the CPU if the network is sharded; empty then in all processes but the first.
    """
    if not is_sharded(network):
        return network.state_dict()
    return get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))

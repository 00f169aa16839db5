"""GPUs by name, with their data sheets' figures."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or a machine without one.

    Attributes:
        memory: bytes that PyTorch sees; a little under the name's.
        flops: operations a second, dense bf16, of the data sheet.
        bandwidth: bytes a second between memory and processor.
        source: where the figures are from.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    source: str


GPUS = {
    device.name: device
    for device in (
        Device(name="A100-40GB", memory=39.4 * GIB, flops=312e12, bandwidth=1.555e12, source="NVIDIA A100 data sheet, SXM"),
        Device(name="A100-80GB", memory=79.1 * GIB, flops=312e12, bandwidth=2.039e12, source="NVIDIA A100 data sheet, SXM"),
        Device(name="H100", memory=79.1 * GIB, flops=989e12, bandwidth=3.35e12, source="NVIDIA H100 data sheet, SXM, without sparsity"),
        Device(name="H200", memory=139.8 * GIB, flops=989e12, bandwidth=4.8e12, source="NVIDIA H200 data sheet, SXM, without sparsity"),
        Device(name="L40S", memory=44.4 * GIB, flops=362e12, bandwidth=0.864e12, source="NVIDIA L40S data sheet, without sparsity"),
        Device(name="RTX-4090", memory=23.5 * GIB, flops=165e12, bandwidth=1.008e12, source="NVIDIA Ada architecture paper, fp32 sums"),
    )
}


def find_device(name: str) -> Device | None:
    """The GPU that a name of the table, or of the driver ("NVIDIA A100-SXM4-80GB"), means."""
    plain = name.upper().replace(" ", "-")
    return next((device for each, device in GPUS.items() if all(part in plain for part in each.upper().split("-"))), None)

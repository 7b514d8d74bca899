"""Parse devices given as text, such as ``cpu:0,gpu:1``."""

import mxnet as mx

from vargfacenet.errors import SettingError, SetupError


def parse_names(text: str) -> list[tuple[str, int]]:
    """Return ``"cpu:0,cpu:1"`` as (kind, number) pairs, whether or not the devices exist; SettingError for a bad name."""
    names = []
    for item in text.split(","):
        kind, _, number = item.strip().partition(":")
        if kind not in ("cpu", "gpu") or not ((number or "0").isdecimal() and int(number or 0) < 256):
            raise SettingError(f"device {item.strip()!r}: expected cpu:N or gpu:N, separated by commas")
        names.append((kind, int(number or 0)))
    if len(set(names)) < len(names):
        raise SettingError(f"devices {text!r}: the same one is given twice")
    return names


def parse_devices(text: str) -> list[mx.Context]:
    """Return ``"cpu:0,cpu:1"`` as contexts; SettingError for a bad name, SetupError for a device that is not there."""
    devices = [mx.Context(*name) for name in parse_names(text)]
    gpus = mx.context.num_gpus()
    for device in devices:
        if device.device_type == "gpu" and device.device_id >= gpus:
            raise SetupError(f"device {device}: MXNet sees {gpus} GPU(s) here; 'vargfacenet doctor' says more")
    return devices


def parse_device(text: str) -> mx.Context:
    """Return ``"gpu:0"`` as a context; errors as in `parse_devices`, and for more than one device."""
    device, *more = parse_devices(text)
    if more:
        raise SettingError(f"device {text!r}: expected one")
    return device


def check_devices(batch_size: int, devices: int, workers: int = 1) -> None:
    """Raise SettingError where a batch does not divide among the devices of all workers; `devices` are those of each."""
    count = devices * workers
    if batch_size % count:
        of = f", {devices} in each of {workers} workers" if workers > 1 else ""
        raise SettingError(f"batch_size={batch_size}: expected a multiple of the number of devices ({count}{of})")

"""The figures of training on a device: rounds in turn, and forms that do not fit."""

import pytest
import torch

from vargfacenet.torch import measure


@pytest.mark.parametrize("when", ["built", "trained"])
def test_a_form_whose_memory_does_not_suffice_is_left_out(when, monkeypatch, capsys, tmp_path):
    seconds = iter([9.0, 2.0, 4.0, 1.0])

    def need_memory(config, now):
        if config.precision == "float32" and now == when:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def build(config, *graph, **options):
        need_memory(config, "built")
        return config

    def a_round(trainer, given, device, updates):
        need_memory(trainer, "trained")
        return next(seconds), 7

    monkeypatch.setattr(measure, "make_trainer", build)
    monkeypatch.setattr(measure, "_batch", lambda *facts: None)
    monkeypatch.setattr(measure, "_round", a_round)
    work = measure.Work(rounds=3, updates=2, identities=5)
    found = measure.measure(torch.device("cpu"), {}, 8, forms=["float32", "bf16"], work=work)
    # The first round warms up; the median of 2, 4 and 1 seconds for two updates of 8 images, and the best.
    assert found == [measure.Figure("bf16", 8, pytest.approx(8.0), pytest.approx(16.0), 7)]
    assert capsys.readouterr().err == "float32, batch 8: the memory of cpu does not suffice\n"


def test_forms_that_a_device_lacks_are_refused(capsys):
    with pytest.raises(SystemExit):
        measure.main(["--device", "cpu:0", "--forms", "bf16, recorded"])
    assert "none of the forms bf16, recorded can be measured on cpu" in capsys.readouterr().err

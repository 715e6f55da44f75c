"""Our published networks against torchvision's and timm's: with the same weights, the same outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from opsin.errors import ConfigError, TensorFileError
from opsin.io.hdf5 import KerasLayers
from opsin.io.tensors import write_tensors
from opsin.models.building import build_backbone, build_network
from opsin.models.parts.convolutions import SameConv2d, SameMaxPool2d
from opsin.models.registry import ENTRIES, ModelSpec
from opsin.models.weights import keras_weights, published
from opsin.models.weights.contracts import INPUT_RANGES
from opsin.models.weights.naming import namings
from opsin.models.weights.pretrained import (
    CONTRACT_KEY,
    load_pretrained,
    pretrained_network,
    read_pretrained,
)

models = torchvision.models
REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "alexnet": models.alexnet,
    "vgg16": models.vgg16,
    "googlenet": lambda: models.googlenet(aux_logits=False, init_weights=False),
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "mobilenet_v2": models.mobilenet_v2,
    "seresnet50": lambda: timm.create_model("seresnet50"),
    "xception": lambda: timm.create_model("legacy_xception"),
    "efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
}
LARGE = ("alexnet", "vgg16")
"""Nearly all their numbers are in dense layers, which the tests of outputs make smaller."""


def fill(network: nn.Module) -> nn.Module:
    """Random weights that keep signals alive through any depth; random statistics of norms."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            layer.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.normal_(0, 0.1, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.get_buffer("running_mean").normal_(0, 0.1, generator=generator)
            layer.get_buffer("running_var").uniform_(0.8, 1.5, generator=generator)
            layer.weight.data.uniform_(0.5, 1.0, generator=generator)
            layer.bias.data.normal_(0, 0.1, generator=generator)
    return network.eval()


def images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_the_number_of_parameters_is_that_of_the_reference(name: str) -> None:
    options = {"response_norm": False} if name == "alexnet" else {}
    with torch.device("meta"):
        reference = REFERENCES[name]()
        ours = build_network(ModelSpec(name=name, channels=3, height=299, width=299, options=options), {"logits": 1000})
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize("name", sorted(set(REFERENCES) - set(LARGE)))
def test_weights_of_the_reference_give_its_outputs(name: str, tmp_path: Path) -> None:
    reference = fill(REFERENCES[name]())
    write_tensors(tmp_path / "weights.safetensors", reference.state_dict())
    pretrained = read_pretrained(tmp_path / "weights.safetensors", name, input_range="imagenet")
    ours = pretrained_network(pretrained)
    with torch.inference_mode():
        expected, given = reference(images(65)), ours(images(65))["logits"]
    assert expected.std() > 1e-3
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
    assert any(f"{pretrained.naming} names" in note for note in pretrained.notes)


@pytest.mark.parametrize("name", LARGE)
def test_large_networks_give_the_references_outputs(name: str) -> None:
    side = {"alexnet": 6, "vgg16": 7}[name]
    with torch.device("meta"):
        reference: Any = REFERENCES[name]()
    maps = reference.features[-3].out_channels
    layers = [nn.Linear(maps * side * side, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 10), nn.ReLU()]
    reference.classifier = nn.Sequential(*([nn.Dropout(), *layers] if name == "alexnet" else [*layers]))
    reference = fill(reference.to_empty(device="cpu"))
    options = {"dense": (12, 10)} | ({"response_norm": False} if name == "alexnet" else {})
    ours = build_backbone(ModelSpec(name=name, channels=3, height=64, width=64, options=options)).eval()
    theirs = namings(name)["torchvision"]
    tensors = reference.state_dict()
    ours.load_state_dict(
        {key: tensors[f"{theirs[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"] for key in ours.state_dict()}
    )
    with torch.inference_mode():
        torch.testing.assert_close(ours(images(64)), reference(images(64)), rtol=1e-5, atol=1e-5)


def test_timm_s_mobilenet_with_same_padding_is_ours_with_same_padding() -> None:
    reference = fill(timm.create_model("mobilenetv2_100", pad_type="same"))
    options = {"padding": "same"}
    ours = build_network(
        ModelSpec(name="mobilenet_v2", channels=3, height=64, width=64, options=options), {"logits": 1000}
    )
    names = namings("mobilenet_v2")["timm"]
    tensors = reference.state_dict()
    ours.backbone.load_state_dict(
        {
            key: tensors[f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"]
            for key in ours.backbone.state_dict()
        }
    )
    ours.heads["logits"].load_state_dict({key: tensors[f"classifier.{key}"] for key in ("weight", "bias")})
    with torch.inference_mode():
        for side in (64, 65):
            torch.testing.assert_close(
                ours.eval()(images(side))["logits"], reference(images(side)), rtol=1e-5, atol=1e-5
            )


def test_same_padding_of_a_hand_worked_row() -> None:
    # 4 pixels, side 3, stride 2: one pixel is padded, at the right: windows (1, 2, 3) and (3, 4, 0)
    layer = SameConv2d(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(layer.weight)
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0]] + [[0.0] * 4] * 3)[None, None]
    assert layer(rows)[0, 0].tolist() == [[6.0, 7.0], [0.0, 0.0]]
    assert SameMaxPool2d(3, 2)(-rows)[0, 0].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert SameMaxPool2d(3, 2)(-rows - 1)[0, 0].tolist() == [[-1.0, -1.0], [-1.0, -1.0]]


def test_the_parameters_of_lenet_are_those_of_the_paper_s_layers() -> None:
    # 6 (25 + 1) + 16 (6 * 25 + 1) + 120 * 401 + 84 * 121 + 10 * 85
    network = build_network(ModelSpec(name="lenet5", channels=1, height=28, width=28), {"logits": 10}, seed=0)
    assert sum(p.numel() for p in network.parameters()) == 61_706


def small_file(tmp_path: Path, metadata: dict[str, str] | None = None, **changes: Any) -> Path:
    """Weights of ResNet-18 in torchvision's names, with changes."""
    tensors = dict(models.resnet18().state_dict()) | changes
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {key: value for key, value in tensors.items() if value is not None}, metadata)
    return path


def test_weights_without_preprocessing_are_refused_with_every_way_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="preprocessing of these weights is unknown") as caught:
        read_pretrained(small_file(tmp_path), "resnet18")
    assert all(name in str(caught.value) for name in INPUT_RANGES)
    with pytest.raises(ConfigError, match="did you mean `signed`"):
        read_pretrained(small_file(tmp_path), "resnet18", input_range="sined")


def test_the_header_of_a_file_may_carry_its_preprocessing(tmp_path: Path) -> None:
    contract = INPUT_RANGES["caffe"]
    path = small_file(tmp_path, {CONTRACT_KEY: json.dumps(contract.to_dict())})
    assert read_pretrained(path, "resnet18").contract == contract
    assert read_pretrained(path, "resnet18", input_range="unit").contract == INPUT_RANGES["unit"]
    broken = small_file(tmp_path, {CONTRACT_KEY: "{"})
    with pytest.raises(TensorFileError, match="not readable"):
        read_pretrained(broken, "resnet18")


def test_every_tensor_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    path = small_file(
        tmp_path, **{"bn1.bias": None, "extra.weight": torch.zeros(2), "layer1.0.bn1.weight": torch.zeros(3)}
    )
    with pytest.raises(TensorFileError, match="do not fit") as caught:
        read_pretrained(path, "resnet18", input_range="imagenet")
    text = str(caught.value)
    assert "1 missing: stem.norm.bias" in text
    assert "1 unknown: extra.weight" in text
    assert "stages.0.0.convolutions.0.norm.weight [3] for [64]" in text


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TensorFileError, match="do not fit network `mobilenet_v2`"):
        read_pretrained(small_file(tmp_path), "mobilenet_v2", input_range="imagenet")


def test_weights_do_not_load_into_a_network_of_another_width(tmp_path: Path) -> None:
    pretrained = read_pretrained(small_file(tmp_path), "resnet18", input_range="imagenet")
    narrow = build_backbone(ModelSpec(name="resnet18", channels=3, height=32, width=32, options={"width": 0.5}))
    with pytest.raises(TensorFileError, match="do not fit this"):
        load_pretrained(narrow, pretrained)


def test_a_file_of_torch_is_read_in_its_format_of_before_1_6_too(tmp_path: Path) -> None:
    tensors = models.resnet18().state_dict()
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    pretrained = read_pretrained(tmp_path / "old.pth", "resnet18", input_range="imagenet")
    assert torch.equal(pretrained.tensors["stem.conv.weight"], tensors["conv1.weight"])


def test_a_file_is_known_by_the_eight_digits_of_its_published_address() -> None:
    digits = models.ResNet18_Weights.DEFAULT.url.rpartition("-")[2].partition(".")[0]
    known = published.recognize("weights.pth", digits + 56 * "0", "resnet18")
    assert known is not None
    assert known.contract == INPUT_RANGES["imagenet"]
    assert published.recognize("weights.pth", 64 * "0", "resnet18") is None


def test_the_thousand_classes_are_in_the_order_of_the_published_heads() -> None:
    classes = published.imagenet_classes()
    assert len(classes) == 1000
    assert (classes[0], classes[207], classes[999]) == ("tench", "golden retriever", "toilet tissue")


@pytest.mark.skipif(published.package_weights("efficientnet_lite0") is None, reason="the package is not installed")
def test_the_package_of_weights_is_read_with_its_own_preprocessing() -> None:
    path = published.package_weights("efficientnet_lite0")
    assert path is not None
    pretrained = read_pretrained(path, "efficientnet_lite0")
    assert (pretrained.contract, pretrained.naming) == (INPUT_RANGES["lite"], "package")
    network = pretrained_network(pretrained)
    assert network(torch.zeros(1, 3, 224, 224))["logits"].shape == (1, 1000)


def test_every_network_that_names_weights_has_an_entry() -> None:
    for table in (published.TORCHVISION, published.TIMM, published.PACKAGES, published.KERAS_CONTRACTS):
        assert set(table) <= set(ENTRIES)


def keras_arrays(name: str, options: dict[str, Any]) -> tuple[dict[str, list[np.ndarray]], nn.Module]:
    """A random network of ours, and its layers as Keras holds them: names and axes turned the other way."""
    spec = ModelSpec(name=name, channels=3, height=64, width=64, options=keras_weights.OPTIONS[name] | options)
    network = build_network(spec, {"logits": 1000}, seed=0)
    own = {
        f"{key.removeprefix('backbone.').replace('heads.logits', 'head')}": value.numpy()
        for key, value in network.state_dict().items()
    }
    layers: dict[str, list[np.ndarray]] = {}
    for ours, theirs, kind in keras_weights.LAYERS[name]():
        if kind == "batch_normalization":
            layers[theirs] = [own[f"{ours}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")]
        elif kind == "separable_conv2d":
            depthwise, pointwise = own[f"{ours}.depthwise.weight"], own[f"{ours}.pointwise.weight"]
            layers[theirs] = [depthwise.transpose(2, 3, 0, 1), pointwise.transpose(2, 3, 1, 0)]
        elif kind == "depthwise_conv2d":
            layers[theirs] = [own[f"{ours}.weight"].transpose(2, 3, 0, 1)]
        elif kind == "dense":
            layers[theirs] = [own[f"{ours}.weight"].T, own[f"{ours}.bias"]]
        else:
            biases = [own[f"{ours}.bias"]] if f"{ours}.bias" in own else []
            layers[theirs] = [own[f"{ours}.weight"].transpose(2, 3, 1, 0), *biases]
    return layers, network.eval()


def write_legacy(path: Path, layers: dict[str, list[np.ndarray]]) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in ("input_1", *layers)]
        file.create_group("input_1").attrs["weight_names"] = []
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{at}:0".encode() for at in range(len(arrays))]
            for at, array in enumerate(arrays):
                group[f"{name}/{at}:0"] = array


def write_counted(path: Path, name: str, layers: dict[str, list[np.ndarray]]) -> None:
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        file.create_group("layers/re_lu/vars")
        for _, theirs, kind in keras_weights.LAYERS[name]():
            number = counts[kind] = counts.get(kind, -1) + 1
            for at, array in enumerate(layers[theirs]):
                file[f"layers/{kind}_{number}/vars/{at}" if number else f"layers/{kind}/vars/{at}"] = array


@pytest.mark.parametrize("name", ["resnet50", "xception"])
def test_layers_of_keras_give_every_tensor_back(name: str) -> None:
    layers, network = keras_arrays(name, {})
    found = {key: tuple(torch.from_numpy(array) for array in arrays) for key, arrays in layers.items()}
    renamed = {
        f"{key}_77" if key.startswith(("conv2d", "batch_norm")) else key: arrays for key, arrays in found.items()
    }
    counts: dict[str, int] = {}
    counted = {}
    for _, theirs, kind in keras_weights.LAYERS[name]():
        number = counts[kind] = counts.get(kind, -1) + 1
        counted[f"{kind}_{number}" if number else kind] = found[theirs]
    own = {key.replace("backbone.", "").replace("heads.logits", "head"): v for key, v in network.state_dict().items()}
    for names, by_class in ((renamed, False), (counted, True)):
        tensors, _ = keras_weights.from_keras(KerasLayers(layers=names, by_class=by_class), name, "file")
        assert set(tensors) == {key for key in own if not key.endswith("num_batches_tracked")}
        assert all(torch.equal(own[key], value) for key, value in tensors.items())


def test_both_layouts_of_keras_are_read(tmp_path: Path) -> None:
    name = "mobilenet_v2"
    layers, network = keras_arrays(name, {})
    write_counted(tmp_path / "a.weights.h5", name, layers)
    write_legacy(tmp_path / "b.h5", layers)
    for file in ("a.weights.h5", "b.h5"):
        pretrained = read_pretrained(tmp_path / file, name, input_range="signed")
        assert pretrained.naming == "keras"
        again = pretrained_network(pretrained).state_dict()
        assert all(torch.equal(again[key], value) for key, value in network.state_dict().items())


def test_dense_layers_of_keras_after_flattened_maps_are_put_into_our_order(tmp_path: Path) -> None:
    kernel = torch.arange(7 * 7 * 2 * 3.0).reshape(7 * 7 * 2, 3)  # row, column, map: Keras' order
    weight = keras_weights._dense(kernel, (7, 7))
    maps = torch.randint(-8, 9, (2, 7, 7)).float()  # whole numbers: both sums are exact in any order
    torch.testing.assert_close(weight @ maps.flatten(), maps.permute(1, 2, 0).flatten() @ kernel)


def test_a_file_of_keras_without_its_top_gives_a_backbone_without_dense_layers(tmp_path: Path) -> None:
    layers, _ = keras_arrays("mobilenet_v2", {})
    del layers["predictions"]
    write_legacy(tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", layers)
    pretrained = read_pretrained(next(tmp_path.iterdir()), "mobilenet_v2")
    assert pretrained.head is None
    assert pretrained.contract == INPUT_RANGES["signed"]
    with pytest.raises(TensorFileError, match="no head"):
        pretrained_network(pretrained)


def test_keras_files_that_lead_elsewhere_or_claim_too_much_are_refused(tmp_path: Path) -> None:
    for case in ("link", "empty", "compressed", "none"):
        path = tmp_path / f"{case}.h5"
        with h5py.File(path, "w") as file:
            if case == "link":
                file.create_group("layers/conv2d/vars")["0"] = h5py.ExternalLink("other.h5", "/x")
            elif case == "empty":
                file.create_dataset("layers/conv2d/vars/0", (1 << 20, 1 << 20), np.float32)
            elif case == "compressed":
                file.create_dataset("layers/conv2d/vars/0", data=np.zeros((9, 9), np.float32), compression="gzip")
        with pytest.raises(TensorFileError, match="not a readable HDF5 file"):
            read_pretrained(path, "vgg16", input_range="caffe")


def test_a_network_of_timm_has_features_maps_and_its_own_preprocessing() -> None:
    name = "timm/regnetx_002"
    backbone = build_backbone(ModelSpec(name=name, channels=3, height=64, width=64)).eval()
    with torch.inference_mode():
        levels = backbone.pyramid(images(64))
        torch.testing.assert_close(backbone.vector(levels), backbone(images(64)))
    assert tuple(level.shape[1] for level in levels) == backbone.pyramid_channels
    assert [level.shape[2] for level in levels] == [32, 16, 8, 4, 2]
    held = {id(p) for section in backbone.sections for p in section.parameters()}
    assert held == {id(p) for p in backbone.parameters()}
    with pytest.raises(ConfigError, match="or a network of timm"):
        build_backbone(ModelSpec(name="timm/no_such_network", channels=3, height=64, width=64))


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_sections_hold_every_weight_once(name: str) -> None:
    channels, height, width = ENTRIES[name].default_size
    with torch.device("meta"):
        backbone = build_backbone(ModelSpec(name=name, channels=channels, height=height, width=width))
    held = [id(p) for section in backbone.sections for p in section.parameters()]
    assert sorted(held) == sorted(id(p) for p in backbone.parameters())

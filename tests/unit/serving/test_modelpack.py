"""A pack is data that was checked: nothing outside its folder, nothing linked, nothing that its hash does not name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.common.serving.modelpack import PackError, find_pack, load_pack, write_pack
from services.common.serving.onnxfile import has_external_data
from tests.packs import manifest, segment_graph, write_classify_pack, write_segment_pack, write_test_packs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_classify_pack(tmp_path / "cropresmoe" / "1")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refusal(folder: Path) -> str:
    with pytest.raises(PackError) as caught:
        load_pack(folder)
    return str(caught.value)


def test_what_is_written_can_be_loaded(tmp_path: Path) -> None:
    for task, folder in write_test_packs(tmp_path).items():
        pack = load_pack(folder)
        assert pack.manifest.task == task
        for entry, file in pack.manifest.files.items():
            assert len(pack.read(entry)) == file.bytes


def test_a_pack_is_found_by_its_name_folder_and_the_newest_version_wins(tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        write_segment_pack(tmp_path / "albert" / version, version=version)
    (tmp_path / "albert" / "11").mkdir()  # no manifest: no version
    assert find_pack(tmp_path / "albert").name == "10"
    assert load_pack(tmp_path / "albert" / "2").manifest.version == "2"


def test_a_missing_pack_says_where_it_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    said = refusal(tmp_path / "albert")
    assert str(tmp_path / "albert") in said and "--pack" in said


@pytest.mark.parametrize("entry", ["fp32", "golden"])
def test_one_changed_byte_is_refused(folder: Path, entry: str) -> None:
    path = folder / load_pack(folder).manifest.files[entry].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert f"files.{entry}" in refusal(folder)


def test_a_file_that_is_longer_than_stated_is_refused(folder: Path) -> None:
    with (folder / "fp32.onnx").open("ab") as file:
        file.write(b"more")
    assert "files.fp32" in refusal(folder)


def test_a_file_that_changes_after_loading_is_refused_when_it_is_read(folder: Path) -> None:
    pack = load_pack(folder)
    (folder / "fp32.onnx").write_bytes(segment_graph())
    with pytest.raises(PackError, match="fp32"):
        pack.read("fp32")


def test_a_linked_file_is_refused_though_its_hash_is_right(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.onnx"
    (folder / "fp32.onnx").rename(outside)
    (folder / "fp32.onnx").symlink_to(outside)
    assert "is a link" in refusal(folder)


def test_a_linked_folder_inside_the_pack_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (folder / "fp32.onnx").rename(tmp_path / "real" / "fp32.onnx")
    (folder / "graphs").symlink_to(tmp_path / "real")
    edit(folder, lambda d: d["files"]["fp32"].update(path="graphs/fp32.onnx"))
    assert "is a link" in refusal(folder)


@pytest.mark.parametrize("path", ["../fp32.onnx", "/etc/passwd", "a/../../fp32.onnx", "..\\fp32.onnx", "", "."])
def test_a_path_out_of_the_folder_is_refused(folder: Path, path: str) -> None:
    (folder.parent / "fp32.onnx").write_bytes((folder / "fp32.onnx").read_bytes())
    edit(folder, lambda d: d["files"]["fp32"].update(path=path))
    assert "files.fp32" in refusal(folder)


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "fp32.onnx").unlink()
    (folder / "fp32.onnx").mkdir()
    assert "files.fp32" in refusal(folder)


def test_a_vocabulary_that_is_not_the_one_its_hash_names_is_refused(folder: Path) -> None:
    edit(folder, lambda d: d["vocabulary"]["classes"].reverse())
    assert "names_hash" in refusal(folder)


def test_other_display_names_need_no_new_pack(folder: Path) -> None:
    edit(folder, lambda d: d["vocabulary"]["damages"][0].update(display="Delle"))
    assert load_pack(folder).manifest.vocabulary.damages[0].display == "Delle"


def test_a_supported_name_outside_the_vocabulary_is_refused(folder: Path) -> None:
    edit(folder, lambda d: d["supported"]["classes"].append("dented"))
    assert "dented" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("licence"), "licence"),
        (lambda d: d.update(format=2), "format"),
        (lambda d: d["files"]["fp32"].update(sha256="abc"), "files.fp32.sha256"),
        (lambda d: d.update(temperature=0), "temperature"),
    ],
)
def test_a_manifest_that_does_not_fit_names_the_entry(
    folder: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    edit(folder, change)
    said = refusal(folder)
    assert "manifest.json" in said and named in said


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff" * 10])
def test_a_manifest_that_is_no_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert "manifest.json" in refusal(folder)


def test_a_needed_file_that_the_manifest_does_not_name_is_refused(folder: Path) -> None:
    edit(folder, lambda d: d["files"].pop("golden"))
    assert "golden" in refusal(folder)


def external_model() -> bytes:
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [given], [out], [weight])
    return bytes(helper.make_model(graph).SerializeToString())


def nested_external_model() -> bytes:
    """The same, but hidden in a constant inside the branch of an If."""
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    weight.data_location = TensorProto.EXTERNAL
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=weight)], "b", [], [out])
    choose = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    return bytes(helper.make_model(helper.make_graph([choose], "g", [condition], [out])).SerializeToString())


@pytest.mark.parametrize("model", [external_model(), nested_external_model()])
def test_onnx_data_outside_of_the_file_is_refused(tmp_path: Path, model: bytes) -> None:
    assert has_external_data(model)
    with pytest.raises(PackError, match="outside of itself"):
        write_pack(tmp_path, manifest("classify", "x"), {"fp32": model, "golden": b"x"})


def test_a_plain_graph_has_no_external_data() -> None:
    assert not has_external_data(segment_graph())


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_off_onnx_file_is_no_crash(cut: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        has_external_data(segment_graph()[:-cut])


def test_a_graph_nested_without_end_is_no_crash() -> None:
    message = b""
    for _ in range(300):  # a graph's node's attribute is a graph, and so on
        for field in (6, 5, 1):
            message = _field(field, message)
    with pytest.raises(ValueError, match="too deeply"):
        has_external_data(_field(7, message))


def _field(number: int, message: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, length = len(message), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + message

"""The JSON part of a request: what is known is written anew, all else is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.guard.infer_request import check_index, check_infer
from serving.guard.refusal import Refusal

GOOD: dict[str, Any] = {
    "id": "7",
    "inputs": [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["ü"]]}],
    "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
    "parameters": {"binary_data_output": False, "priority": 2},
}
BINARY = {"name": "image", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 10}}


def _input(**changes: Any) -> dict[str, Any]:
    return {"inputs": [GOOD["inputs"][0] | changes]}


def test_known_fields_pass_unchanged() -> None:
    assert json.loads(check_infer(json.dumps(GOOD).encode(), 0, 64)) == GOOD
    assert json.loads(check_infer(json.dumps({"inputs": [BINARY]}).encode(), 10, 64)) == {"inputs": [BINARY]}
    assert check_index(b"") == b""
    assert check_index(b'{"ready": true}') == b'{"ready":true}'


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("UINT8", [[0], [255]]), ("INT32", [[-(2**31)], [2**31 - 1]]), ("UINT64", [[0], [2**64 - 1]])],
)
def test_the_largest_and_smallest_numbers_of_a_type_pass(datatype: str, data: Any) -> None:
    request = _input(datatype=datatype, data=data)
    assert json.loads(check_infer(json.dumps(request).encode(), 0, 64)) == request


def test_of_a_repeated_key_only_what_was_checked_is_passed_on() -> None:
    twice = (
        b'{"outputs": [{"name": "error", "parameters": {"classification": 1}}],' + json.dumps(GOOD).encode()[1:]
    )
    assert b"classification" not in check_infer(twice, 0, 64)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ([], "the request is no JSON object"),
        ({}, "inputs is missing"),
        (GOOD | {"x": 1}, "the request: 'x' is not known here"),
        (GOOD | {"id": 7}, "id must be a text"),
        (GOOD | {"id": "a" * 300}, "id must be a text of 256 characters"),
        (GOOD | {"parameters": {"sequence_id": 1}}, "parameters: 'sequence_id' is not known here"),
        (GOOD | {"parameters": {"timeout": 1}}, "parameters: 'timeout' is not known here"),
        (GOOD | {"outputs": [{"name": "error", "parameters": {"classification": 1}}]}, "'classification'"),
        (GOOD | {"outputs": [{"name": "error"}] * 9}, "outputs is no list of 8 at most"),
        (_input(parameters={"shared_memory_region": "x"}), "'shared_memory_region' is not known here"),
        (_input(shape=[0, 1]), "shape begins with 0: this model takes 1 to 64 items"),
        (_input(shape=[65, 1]), "shape begins with 65"),
        (_input(shape=[2**32 + 1, 1]), "shape must be a number from 0 to 2147483647"),
        (_input(shape=[]), "shape must be a list of 1 to 8"),
        (_input(shape=[True, 1]), "shape must be a number"),
        (_input(datatype="X"), "datatype must be one of BOOL"),
        (_input(data=[[[[[[["a"]]]]]]]), "data must be a list of values"),
        (_input(data=[{"a": 1}]), "data must be a list of values"),
        (_input(data=[["a"]]), "data has 1 values, and shape is [2, 1]"),
        (_input(data=[["a"], ["b", "c"]]), "data has 3 values, and shape is [2, 1]"),
        (_input(data=[]), "data has 0 values, and shape is [2, 1]"),
        (_input(datatype="UINT8", data=[[255], [256]]), "data has numbers that UINT8 does not hold"),
        (_input(datatype="UINT8", data=[[-1], [0]]), "data has numbers that UINT8 does not hold"),
        (_input(datatype="INT32", data=[[2**31], [0]]), "data has numbers that INT32 does not hold"),
        (_input(datatype="INT8", data=[[-129], [0]]), "data has numbers that INT8 does not hold"),
        (_input(data=["a", ["b"]]), "data must be a list of values"),
        (_input(data="a"), "data must be a list of values"),
        (_input(data=[1]), "data has other values than BYTES"),
        (_input(data=[[True], [1]], datatype="BOOL"), "data has other values than BOOL"),
        (_input(data=["1"], datatype="FP32"), "data has other values than FP32"),
        (_input(data=[1.5], datatype="INT32"), "data has other values than INT32"),
        (_input(parameters={"binary_data_size": 4}), "either data or the parameter binary_data_size"),
        ({"inputs": [BINARY]}, "0 bytes follow the JSON part, but binary_data_size of all inputs together is 10"),
        ({"inputs": [{"name": "text"}]}, "shape is missing"),
    ],
)
def test_other_fields_are_named(request_: Any, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_infer(json.dumps(request_).encode(), 0, 64)
    assert reason in str(refused.value)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b"1" * 10_000, b'{"id": "a', b"\xef\xbb\xbf{}"],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal, match="the JSON part"):
        check_infer(text, 0, 64)


def test_numbers_beyond_float_are_refused() -> None:
    text = json.dumps(_input(shape=[1, 1], data=["DATA"], datatype="FP32")).replace('"DATA"', "1e999").encode()
    with pytest.raises(Refusal, match="not finite"):
        check_infer(text, 0, 64)

"""A server as tutorials write it, beside which `server_load.py` measures `opsin serve`: one image a call.

    python benchmarks/plain_server.py torch RUN/model         prints its port
    python benchmarks/plain_server.py onnx EXPORTED/model.onnx

Source: PyTorch's "Deploying PyTorch in Python via a REST API with Flask" (transforms of torchvision, the network in the
handler), as an `async def` handler, as FastAPI's tutorial on uploads has it; `onnx` runs the exported file instead.
"""

from __future__ import annotations

import io
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Predict = Callable[[Image.Image], dict[str, object]]


def of_torch(folder: str) -> Predict:
    """PyTorch's tutorial with the network of a run."""
    import torch
    from torchvision import transforms

    from opsin.artifact import load

    artifact = load(Path(folder))
    network, contract = artifact.network.eval(), artifact.preprocess
    side = (contract.size.height, contract.size.width)
    steps = [transforms.Resize(side[0]), transforms.CenterCrop(side), transforms.ToTensor()]
    steps += [transforms.Grayscale()] if contract.channels == 1 else []
    transform = transforms.Compose([*steps, transforms.Normalize(contract.mean, contract.std)])

    def predict(image: Image.Image) -> dict[str, object]:
        tensor = transform(image).unsqueeze(0)
        with torch.no_grad():
            outputs = network(tensor)
        shares = torch.softmax(next(iter(outputs.values())), 1)[0].flatten()
        best = int(shares.argmax()) % len(artifact.classes)
        return {"label": artifact.classes[best], "score": float(shares.max())}

    return predict


def of_onnx(file: str) -> Predict:
    """The same with ONNX Runtime; normalization is inside the file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    channels, height, width = given.shape[1:]

    def predict(image: Image.Image) -> dict[str, object]:
        scale = max(height / image.height, width / image.width)
        sides = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        left, top = (sides[0] - width) // 2, (sides[1] - height) // 2
        resized = image.convert("L" if channels == 1 else "RGB").resize(sides, Image.Resampling.BILINEAR)
        pixels = np.atleast_3d(np.asarray(resized.crop((left, top, left + width, top + height))))
        outputs = session.run(None, {given.name: np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]})
        return {"shares": np.asarray(outputs[0]).ravel()[:10].tolist()}

    return predict


def main() -> None:
    predict = {"torch": of_torch, "onnx": of_onnx}[sys.argv[1]](sys.argv[2])

    async def answer(request: Request) -> JSONResponse:
        async with request.form() as form:
            image = Image.open(io.BytesIO(await form["file"].read())).convert("RGB")  # type: ignore[union-attr]
        return JSONResponse(predict(image))

    app = Starlette(routes=[Route("/predict", answer, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()

"""A trained network as one file for other programs: ONNX or torch.export, checked on the golden images."""

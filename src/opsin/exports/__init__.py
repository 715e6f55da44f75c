"""A trained network as one file for other programs: ONNX or torch.export, proved equal before it is kept."""
